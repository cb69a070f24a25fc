"""GET /console and its files, and GET / that leads there."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from producer_api.auth import CONSOLE_FILES
from producer_api.console.page.assets import KEPT, PAGE_HEADERS, Assets
from producer_api.routes.models import NOT_KEPT, json_response
from shared.wire.outcomes import NOT_FOUND, RequestError

PATH = "/console"
HTML = "text/html; charset=utf-8"


class Welcome(Struct, frozen=True):
    """What is where, for programs."""

    name: str = "headrace"
    console: str = PATH
    documentation: str = "/docs"
    openapi: str = "/openapi.json"
    alive: str = "/healthz"
    ready: str = "/readyz"


class ConsolePage:
    """The routes. None of them needs an API key: the page holds nothing of this installation.

    Args:
        is_ready: says whether a request sent now can be answered.
    """

    def __init__(self, assets: Assets, is_ready: Callable[[], bool]) -> None:
        self._assets, self._is_ready = assets, is_ready
        self._etag = f'"{assets.version}"'

    def routes(self) -> list[Route]:
        """Return them; ``/`` comes last, since a setting may give that path to something else."""
        return [
            Route(path, answer, include_in_schema=False)
            for path, answer in (
                (PATH, self.page),
                (f"{PATH}/", self.to_page),
                (CONSOLE_FILES + "{version}/{name:path}", self.file),
                ("/", self.welcome),
            )
        ]

    async def page(self, request: Request) -> Response:
        """Return the page."""
        headers = {**PAGE_HEADERS, "ETag": self._etag}
        if request.headers.get("if-none-match") == self._etag:
            return Response(status_code=304, headers=headers)
        return Response(self._assets.page, headers=headers, media_type=HTML)

    async def to_page(self, request: Request) -> Response:
        """Lead to the page: below a path that ends with a slash its links would lead nowhere."""
        return RedirectResponse("../console", 308)

    async def file(self, request: Request) -> Response:
        """Return a file of the page.

        Where front ends of two versions share a port, a page may ask the other one for its files: it gets those that
        are here, and the browser keeps them not.

        Raises:
            RequestError: ``NOT_FOUND``.
        """
        found = self._assets.get(request.path_params["name"])
        if found is None:
            raise RequestError(NOT_FOUND, "The console has no such file; reload its page.")
        is_own = request.path_params["version"] == self._assets.version
        headers = {"Cache-Control": KEPT} if is_own else dict(NOT_KEPT)
        body = found.body
        if found.packed is not None:
            headers["Vary"] = "Accept-Encoding"
            if "gzip" in request.headers.get("accept-encoding", ""):
                body, headers["Content-Encoding"] = found.packed, "gzip"
        return Response(body, headers=headers, media_type=found.media_type)

    async def welcome(self, request: Request) -> Response:
        """Lead a person to the console, the documentation and the answer to "is it alive"; a program gets JSON."""
        if "text/html" in request.headers.get("accept", ""):
            page = self._assets.welcome(is_ready=self._is_ready())
            return Response(page, headers={**PAGE_HEADERS, **NOT_KEPT, "Vary": "Accept"}, media_type=HTML)
        response = json_response(Welcome())
        response.headers["Vary"] = "Accept"
        return response
