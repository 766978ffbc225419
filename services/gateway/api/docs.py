"""The page `/docs`, which shows the OpenAPI document to people, and its files."""

from collections.abc import Mapping
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

_FOLDER = Path(__file__).parent.parent / "page"
# All URLs in the page are relative, so that it works behind a proxy that adds a prefix.
_FILES: Mapping[str, str] = {
    "/docs": "page.html",
    "/docs/page.css": "page.css",
    "/docs/page.js": "page.js",
    "/docs/swagger-ui.css": "swagger-ui/swagger-ui.css",
    "/docs/swagger-ui-bundle.js": "swagger-ui/swagger-ui-bundle.js",
}
_HEADERS: Mapping[str, str] = {
    # Requests go to this origin alone: a person may type a key into the page.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # kept, and asked for again by the ETag of the library
}


def routes() -> list[web.RouteDef]:
    """Return the routes of the page and its files; none of them asks for a key."""
    return [web.get(path, _file(_FOLDER / name)) for path, name in _FILES.items()]


def _file(path: Path) -> Handler:
    async def get_file(_: web.Request) -> web.FileResponse:
        return web.FileResponse(path, headers=_HEADERS)

    return get_file
