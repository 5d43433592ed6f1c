"""The page that shows the API works without any other address than the service's own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.http.core import documentation
from tests.services.http.api import Api

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("path", "files"), [("/docs", 3), ("/redoc", 2)])
async def test_a_page_and_all_that_it_loads_come_from_here(api: Api, path: str, files: int) -> None:
    page = await api.client.get(path)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "http:" not in page.text
    assert "https:" not in page.text
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert not any("http" in sources for sources in policy.values())
    loaded = re.findall(r'(?:src|href)="(/docs/[^"]+)"', page.text)
    assert len(loaded) == files
    for address in loaded:
        file = await api.client.get(address)
        assert file.status_code == 200, address
        assert file.headers["content-type"].startswith(("text/javascript", "text/css", "application/javascript"))
        assert file.headers["x-content-type-options"] == "nosniff"
        again = await api.client.get(address, headers={"If-None-Match": file.headers["etag"]})
        assert again.status_code in (200, 304)
    script = (await api.client.get(loaded[-1])).text
    assert '"/openapi.json"' in script


async def test_swagger_ui_asks_nobody_to_validate_the_document(api: Api) -> None:
    assert "validatorUrl: null" in (await api.client.get("/docs/docs.js")).text


@pytest.mark.parametrize("path", ["/docs/", "/docs/../app.py", "/docs/swagger-ui.css.map", "/docs/LICENSE"])
async def test_nothing_else_lies_below_it(api: Api, path: str) -> None:
    assert (await api.client.get(path)).status_code == 404


def test_what_is_of_others_has_its_licence_and_version() -> None:
    static = Path(documentation.__file__).parents[1] / "static"
    told = (static / "README.md").read_text("utf-8")
    row = r"(?:, `[\w.-]+`)* \| `([\w.-]+)` \| (\d+\.\d+\.\d+) \| [\w.-]+ \|"
    for folder in (each for each in static.iterdir() if each.is_dir() and each.name != "console"):
        assert re.search(rf"\| `{folder.name}`{row}", told), folder.name
        assert (folder / "LICENSE").is_file()
    # Of the console's files some are Foldwork's own.
    console = static / "console"
    told, licences = ((console / name).read_text("utf-8") for name in ("README.md", "LICENSE"))
    for file in console.glob("*.min.*"):
        found = re.search(rf"`{re.escape(file.name)}`{row}", told)
        assert found is not None, file.name
        assert f"== {found[1]} {found[2]}\n" in licences
    for path in static.rglob("*.*s"):
        assert not re.search(r"^/[/*]# sourceMappingURL=", path.read_text("utf-8"), re.MULTILINE), path.name
