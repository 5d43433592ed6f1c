"""The OpenAPI document, and Swagger UI to read it with, served from this package alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

_STATIC = Path(__file__).parents[1] / "static"
# Below `/docs`. Swagger UI is vendored: `static/README.md` says from where, and how to replace it.
_FILES = {
    "swagger-ui.css": _STATIC / "swagger-ui" / "swagger-ui.css",
    "swagger-ui-bundle.js": _STATIC / "swagger-ui" / "swagger-ui-bundle.js",
    "docs.js": _STATIC / "docs.js",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Foldwork API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript. The document itself is at <a href="/openapi.json">/openapi.json</a>.</noscript>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/docs.js"></script>
</body>
</html>
"""
# Swagger UI sets styles on elements, and its icons are `data:` images.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self';"
    " style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
}


def install(app: Starlette, document: Callable[[], dict[str, Any]]) -> None:
    """Serve `/openapi.json`, `/docs` and the files of that page."""

    async def served(_: Request) -> Response:
        return Response(msgspec.json.encode(document()), media_type="application/json")

    async def page(_: Request) -> Response:
        return HTMLResponse(_PAGE, headers=_HEADERS)

    async def file(request: Request) -> Response:
        name = request.url.path.rpartition("/")[2]
        return FileResponse(_FILES[name], headers={**_HEADERS, "Cache-Control": "public, max-age=3600"})

    app.add_route("/openapi.json", served)
    app.add_route("/docs", page)
    for name in _FILES:
        app.add_route(f"/docs/{name}", file)
