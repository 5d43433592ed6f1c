"""Clients are generated from the OpenAPI document without a warning, with every operation and a name for each body.

`openapi-python-client` is always there. Generators for TypeScript are used where they are found: below
`FOLDWORK_TEST_NODE_MODULES`, or else on the PATH.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_python_client.strings import pascal_case, snake_case

from services import contracts

Json = dict[str, Any]
_SCHEMAS = "#/components/schemas/"
_NODE_MODULES = os.environ.get("FOLDWORK_TEST_NODE_MODULES")
_COMPLAINT = re.compile(r"warn|error|fail|⚠", re.IGNORECASE)
_TSCONFIG = {
    "compilerOptions": {
        "strict": True,
        "noEmit": True,
        "target": "es2022",
        "module": "esnext",
        "moduleResolution": "bundler",
        "lib": ["es2022", "dom", "dom.iterable"],
        "types": [],
    },
    "include": ["**/*.ts"],
}


def tool(name: str) -> str | None:
    """The path of a program of Node, if it is installed."""
    return shutil.which(name, path=f"{_NODE_MODULES}/.bin" if _NODE_MODULES else None)


TYPESCRIPT = [name for name in ("openapi-typescript", "orval") if tool(name) is not None and tool("tsc") is not None]


@pytest.fixture(scope="module")
def document() -> Json:
    return contracts.openapi()


@pytest.fixture
def written(document: Json, tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(document), "utf-8")
    return path


def operations(document: Json) -> dict[str, Json]:
    return {said["operationId"]: said for found in document["paths"].values() for said in found.values()}


def bodies(document: Json, said: Json) -> Iterator[tuple[str, Json]]:
    """Yield the schema of each JSON body of an operation, with what it is the body of."""
    shared = document["components"]["responses"]
    answers = {
        status: shared[answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
        for status, answer in said["responses"].items()
    }
    for name, part in {"request": said.get("requestBody", {}), **answers}.items():
        for media, content in part.get("content", {}).items():
            if media.endswith("json"):
                yield f"{said['operationId']} {name}", content["schema"]


def names(document: Json) -> dict[str, set[str]]:
    """The names of the objects that are the bodies of each operation; of two content types generators take one."""
    schemas = document["components"]["schemas"]
    return {
        name: {
            component
            for schema in dict(reversed([*bodies(document, said)])).values()
            if schemas[component := schema["$ref"].removeprefix(_SCHEMAS)].get("type") == "object"
            # Generators make something else of these.
            and "anyOf" not in schemas[component]
        }
        for name, said in operations(document).items()
    }


def run(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [*map(str, words)], cwd=cwd, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_every_json_body_is_a_schema_of_its_own_name(document: Json) -> None:
    found = [body for said in operations(document).values() for body in bodies(document, said)]
    assert [place for place, schema in found if set(schema) != {"$ref"}] == []
    assert len(found) > len(operations(document))


def test_no_schema_has_a_title_that_would_rename_it(document: Json) -> None:
    schemas = document["components"]["schemas"].items()
    assert [name for name, schema in schemas if schema.get("title", name) != name] == []


def test_a_client_for_python(document: Json, written: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("post_hooks: []\n", "utf-8")
    program, client = Path(sys.executable).with_name("openapi-python-client"), tmp_path / "client"
    said = run(
        program, "generate", "--path", written, "--output-path", client, "--config", config, "--meta", "none",
        "--fail-on-warning", cwd=tmp_path,
    )  # fmt: skip
    assert _COMPLAINT.search(said) is None, said
    calls = {path.stem: path.read_text("utf-8") for path in client.glob("api/*/*.py") if path.stem != "__init__"}
    assert set(calls) == {snake_case(name) for name in operations(document)}
    for operation, wanted in names(document).items():
        imported = set(re.findall(r"^from \.\.\.models\.\w+ import (\w+)$", calls[snake_case(operation)], re.MULTILINE))
        assert {pascal_case(name) for name in wanted} <= imported, operation


def client_for_typescript(generator: str, document: Json, written: Path, tmp_path: Path) -> None:
    client = tmp_path / "client"
    client.mkdir()
    output = {"target": "api.ts", "schemas": "model", "client": "fetch", "mode": "single", "workspace": str(client)}
    config = tmp_path / "orval.config.cjs"
    config.write_text(f"module.exports = {json.dumps({'api': {'input': str(written), 'output': output}})}", "utf-8")
    program = tool(generator)
    assert program is not None
    if generator == "orval":
        said = run(program, "--config", config, cwd=tmp_path)
        made = re.findall(r"^export const (\w+) = async ", (client / "api.ts").read_text("utf-8"), re.MULTILINE)
        wanted = {_camel(name) for name in operations(document)}
        models = "\n".join(path.read_text("utf-8") for path in client.glob("model/*.ts"))
        declared = set(re.findall(r"^export (?:interface|type) (\w+)", models, re.MULTILINE))
    else:
        said = run(program, written, "-o", client / "api.ts", cwd=tmp_path)
        text = (client / "api.ts").read_text("utf-8")
        made = re.findall(r"^    (\w+): {$", text.partition("export interface operations {")[2], re.MULTILINE)
        wanted = set(operations(document))
        declared = set(re.findall(r"^        (\w+): ", text, re.MULTILINE))
    assert _COMPLAINT.search(said.replace(str(tmp_path), "")) is None, said
    assert wanted <= set(made)
    assert {name for found in names(document).values() for name in found} <= declared
    (tmp_path / "tsconfig.json").write_text(json.dumps(_TSCONFIG), "utf-8")
    compiler = tool("tsc")
    assert compiler is not None
    run(compiler, "-p", tmp_path, cwd=tmp_path)


def _camel(name: str) -> str:
    pascal = pascal_case(name)
    return pascal[:1].lower() + pascal[1:]


# Where there is no Node there is no such test, rather than one that is skipped.
if TYPESCRIPT:
    test_a_client_for_typescript = pytest.mark.parametrize("generator", TYPESCRIPT)(client_for_typescript)
