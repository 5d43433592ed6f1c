"""The OpenAPI document, and Swagger UI and ReDoc to read it with, served from this package alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

_STATIC = Path(__file__).parents[1] / "static"
# Below `/docs`. Both pages are vendored: `static/README.md` says from where, and how to replace them.
_FILES = {
    "swagger-ui.css": _STATIC / "swagger-ui" / "swagger-ui.css",
    "swagger-ui-bundle.js": _STATIC / "swagger-ui" / "swagger-ui-bundle.js",
    "docs.js": _STATIC / "docs.js",
    "redoc.standalone.js": _STATIC / "redoc" / "redoc.standalone.js",
    "redoc.js": _STATIC / "redoc.js",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Foldwork API</title>
{styles}
</head>
<body>
<div id="{element}"></div>
<noscript>This page needs JavaScript. The document itself is at <a href="/openapi.json">/openapi.json</a>.</noscript>
{scripts}
</body>
</html>
"""


def _page(element: str, *files: str) -> str:
    styles = [f'<link rel="stylesheet" href="/docs/{name}">' for name in files if name.endswith(".css")]
    scripts = [f'<script src="/docs/{name}"></script>' for name in files if name.endswith(".js")]
    return _PAGE.format(element=element, styles="\n".join(styles), scripts="\n".join(scripts))


_PAGES = {
    "/docs": _page("swagger-ui", "swagger-ui.css", "swagger-ui-bundle.js", "docs.js"),
    "/redoc": _page("redoc", "redoc.standalone.js", "redoc.js"),
}
# Both pages set styles on elements, and their icons are `data:` images. ReDoc searches in a worker made from a blob.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self';"
    " style-src 'self' 'unsafe-inline'; img-src 'self' data:; worker-src blob:; frame-ancestors 'none'",
}


def install(app: Starlette, document: Callable[[], dict[str, Any]]) -> None:
    """Serve `/openapi.json`, the pages `/docs` and `/redoc`, and their files."""

    async def served(_: Request) -> Response:
        return Response(msgspec.json.encode(document()), media_type="application/json")

    async def page(request: Request) -> Response:
        return HTMLResponse(_PAGES[request.url.path], headers=_HEADERS)

    async def file(request: Request) -> Response:
        name = request.url.path.rpartition("/")[2]
        return FileResponse(_FILES[name], headers={**_HEADERS, "Cache-Control": "public, max-age=3600"})

    app.add_route("/openapi.json", served)
    for path in _PAGES:
        app.add_route(path, page)
    for name in _FILES:
        app.add_route(f"/docs/{name}", file)
