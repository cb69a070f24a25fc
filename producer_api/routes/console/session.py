"""GET /console/session: what the sender of a request may do on the console, and what there is to look at."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from producer_api.console.access import right_of
from producer_api.console.documents import Session
from producer_api.queue.interface import Queue
from producer_api.routes.models import json_response
from shared.version import __version__

PATH = "/console/session"


def routes(queue: Queue) -> list[BaseRoute]:
    """Make the route. It tells a request without a role why, instead of refusing it."""

    async def session(request: Request) -> Response:
        right = right_of(request)
        has_keys = request.app.state.console_access.has_keys
        return json_response(Session(right.role, __version__, sorted(queue.catalogue().models), has_keys, right.why))

    return [Route(PATH, session, methods=["GET"], include_in_schema=False)]
