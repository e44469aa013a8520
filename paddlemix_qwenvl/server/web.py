"""The page at `/`, and the headers by which browsers trust this server's answers no further than they must."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from socket import gethostname
from urllib.parse import urlsplit

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paddlemix_qwenvl.server.errors import RequestError, response_of

FOLDER = Path(__file__).with_name("page")
PREFIX = "/page/"
_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' blob: data:",
    "media-src 'self' blob: data:",
    "connect-src 'self'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
)
_FOREIGN = RequestError(
    "this server answers its own page and programs, not pages of other sites: ask it as localhost, or give it keys and a --host.",
    403,
)
_HEADERS = {
    "Content-Security-Policy": "; ".join(_POLICY),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def page_routes() -> APIRouter:
    """The page and its files, which are the same for everybody; no description of them is made."""
    router = APIRouter(include_in_schema=False)
    files = {path.name: path for path in FOLDER.iterdir() if path.is_file()}

    @router.get("/")
    async def page() -> FileResponse:
        return await part("index.html")

    @router.get(PREFIX + "{name}")
    async def part(name: str) -> FileResponse:
        if name not in files:
            raise HTTPException(404)
        return FileResponse(files[name], headers={"Cache-Control": "no-cache"})

    return router


class OwnPages:
    """Middleware that turns away what foreign pages have a browser ask.

    Browsers say where a request comes from (`Sec-Fetch-Site`): none is posted from elsewhere (cross-site request forgery). Where
    nobody but this machine is answered, it is asked by an IP address or a name of its own: any other name was made to mean this
    machine by whose it is (DNS rebinding, ollama's CVE-2024-28224).

    Args:
        local: nobody but this machine is answered.
    """

    def __init__(self, app: ASGIApp, local: bool):
        self._app, self._local = app, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            is_posted = scope["method"] == "POST" and headers.get("sec-fetch-site", "none") not in (
                "none",
                "same-origin",
            )
            if is_posted or (self._local and not _is_this_machine(headers.get("host", ""))):
                return await response_of(_FOREIGN)(scope, receive, send)
        return await self._app(scope, receive, send)


def _is_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or "localhost"
    except ValueError:
        return False
    if name in ("localhost", gethostname().lower()) or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


class SafeHeaders:
    """Middleware that puts these headers on every answer."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, with_headers)
