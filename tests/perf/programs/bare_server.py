"""The comparison without a queue: uvicorn and Starlette alone, the same event loop, HTTP parser and answer.

`python -m tests.perf.programs.bare_server ANSWER_FILE` serves on a free port and prints it. The answer is the one that
Headrace gave to the same request, prepared beforehand: no server of this kind could do less per request.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def create_app(answer: bytes) -> Starlette:
    """Return an application that reads each body and sends `answer`."""

    async def predict(request: Request) -> Response:
        await request.body()
        return Response(answer, media_type="application/json")

    async def card(request: Request) -> Response:
        return Response(b"{}", media_type="application/json")

    return Starlette(
        routes=[Route("/v1/models/echo/predict", predict, methods=["POST"]), Route("/v1/models/echo", card)]
    )


async def serve(listener: socket.socket, answer: bytes) -> None:
    """Serve until a signal comes."""
    config = uvicorn.Config(
        create_app(answer), loop="uvloop", http="httptools", ws="none", log_level="error", access_log=False
    )
    gc.collect()
    gc.freeze()
    print(f"Serving on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


def main() -> None:
    """Take a free port and serve."""
    import uvloop

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(listener, Path(sys.argv[1]).read_bytes()))


if __name__ == "__main__":
    main()
