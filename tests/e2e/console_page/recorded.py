"""A front end whose figures are made up: the real page, served by the real routes, with documents of any size.

They are as large or as hostile as a test wants them. Rights and actions are as simple as can be; the real ones are
tried on a real stack.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from producer_api.console.page.assets import Assets
from producer_api.routes.console.page import ConsolePage
from tests.e2e.console_page import documents


@dataclass
class Recorded:
    """What it answers; a test changes it while it runs.

    Attributes:
        changed: what is other of models, by name.
        text: stands in every name and sentence, where there is one.
        clock_ms: added to the time that it says it is.
        posts: path and body of each action.
        letters: how many dead letters there are.
        is_slow: an action works until it is stopped.
    """

    models: int = 3
    workers: int = 2
    lanes: int = 2
    letters: int = 3
    text: str = ""
    role: str = "operate"
    why: str = ""
    key: str = ""
    health: dict[str, Any] | None = None
    changed: dict[str, dict[str, Any]] = field(default_factory=dict)
    clock_ms: int = 0
    tick_s: float = 2.0
    is_slow: bool = False
    posts: list[tuple[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    is_exact: bool = True
    is_broken: bool = False
    is_over: bool = False

    def now_ms(self) -> int:
        return int(time.time() * 1000) + self.clock_ms

    def state(self, chosen: str) -> dict[str, Any]:
        found = documents.state(
            self.now_ms(), chosen, models=self.models, workers=self.workers, lanes=self.lanes, text=self.text
        )
        for one in found["models"]:
            one.update(self.changed.get(one["name"], {}))
        return found if self.health is None else {**found, "health": self.health}

    def routes(self) -> list[Route]:
        return [
            *ConsolePage(Assets(), lambda: True).routes(),
            Route("/console/session", self.session),
            Route("/console/state", self.one_state),
            Route("/console/events", self.events),
            Route("/console/history", self.history),
            Route("/console/dead", self.dead),
            Route("/console/dead/{verb}", self.act_on_dead, methods=["POST"]),
            Route("/console/jobs", self.jobs),
            Route("/console/jobs/cancel", self.act, methods=["POST"]),
            Route("/console/lanes/pause", self.act, methods=["POST"]),
            Route("/console/requests/{id:path}", self.request),
            Route("/v1/models/{model:path}/predict", self.predict, methods=["POST"]),
            Route("/v1/models/{model:path}", self.card),
        ]

    def refusal(self, request: Request) -> Response | None:
        self.asked.append(f"{request.method} {request.url.path}?{request.url.query}")
        if self.is_broken:
            return Response("<h1>Bad gateway</h1>", 503)
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            error = {"code": "unauthorized", "message": "A valid API key is needed: Authorization: Bearer KEY."}
            return JSONResponse({"error": error}, 401)
        return None

    async def session(self, request: Request) -> Response:
        names = [one["name"] for one in self.state("")["models"]]
        body = {
            "role": self.role,
            "version": "0",
            "models": names,
            "keys_required": bool(self.key),
            "read_only_why": self.why,
        }
        return self.refusal(request) or JSONResponse(body)

    async def one_state(self, request: Request) -> Response:
        return self.refusal(request) or JSONResponse(self.state(request.query_params.get("model", "")))

    async def events(self, request: Request) -> Response:
        refused = self.refusal(request)
        if refused is not None:
            return refused

        async def stream() -> AsyncIterator[str]:
            yield "retry: 2000\n\n"
            while not self.is_over:
                body = json.dumps(self.state(request.query_params.get("model", "")))
                yield f": still here\nevent: state\ndata: {body}\n\n"
                await asyncio.sleep(self.tick_s)

        return StreamingResponse(stream(), media_type="text/event-stream")

    async def history(self, request: Request) -> Response:
        values = request.query_params
        body = documents.history(self.now_ms() // 1000, int(values["minutes"]), int(values["points"]))
        return self.refusal(request) or JSONResponse(body)

    async def dead(self, request: Request) -> Response:
        start = int(request.query_params.get("after", "0"))
        wanted = request.query_params.get("match", "")
        limit = int(request.query_params["limit"])
        found = [documents.letter(n, self.text) for n in range(start, min(self.letters, start + limit))]
        found = [one for one in found if wanted in json.dumps(one, ensure_ascii=False)]
        more = found and start + limit < self.letters
        body = {
            "letters": found,
            "next": str(start + limit) if more else None,
            "total": self.letters,
            "matching": self.letters,
            "matching_is_exact": self.is_exact,
        }
        return self.refusal(request) or JSONResponse(body)

    async def act_on_dead(self, request: Request) -> Response:
        body = await request.json()
        self.posts.append((request.url.path, body))
        total = self.letters if body.get("all") else len(body["ids"])

        async def stream() -> AsyncIterator[str]:
            for done in range(0, total, 500):
                yield json.dumps({"done": done, "total": total}) + "\n"
                await asyncio.sleep(0.05 if self.is_slow else 0)
            self.letters -= total
            yield json.dumps({"ended": True, "done": total, "failed": 0, "gone": 0, "why": ""}) + "\n"

        return self.refusal(request) or StreamingResponse(stream(), media_type="application/jsonl")

    async def jobs(self, request: Request) -> Response:
        return self.refusal(request) or JSONResponse({"jobs": [documents.job(n, self.text) for n in range(3)]})

    async def act(self, request: Request) -> Response:
        assert request.headers["headrace-console"] == "1"
        self.posts.append((request.url.path, await request.json()))
        return self.refusal(request) or JSONResponse({})

    async def request(self, request: Request) -> Response:
        return self.refusal(request) or JSONResponse(documents.explained(request.path_params["id"], self.text))

    async def card(self, request: Request) -> Response:
        types = ["image/jpeg", self.text or "image/png"]
        return self.refusal(request) or JSONResponse({"name": self.text, "content_types": types, "example": None})

    async def predict(self, request: Request) -> Response:
        await request.body()
        names = [self.text] * 5 if self.text else ["tabby", "tiger cat", "Egyptian cat", "lynx", "Persian cat"]
        body = {
            "id": self.text or "9efb23c2469511d300000001",
            "model": "imagenet",
            "predictions": [{"label": name, "index": n, "score": 0.61 / (n + 1) ** 2} for n, name in enumerate(names)],
            "timing": {
                "total_ms": 18.6,
                "batch_size": 6,
                "worker": self.text or "worker-000",
                **documents.explained("x", self.text)["found"][0],
            },
        }
        return self.refusal(request) or JSONResponse(body)


class Quiet(uvicorn.Server):
    """A server that a thread runs: signals belong to the test."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def serving(recorded: Recorded, port: int = 0) -> Iterator[str]:
    """Serve it on a free port, or on a certain one, and return its address."""
    recorded.is_over = False
    listener = socket.create_server(("127.0.0.1", port))
    app = Starlette(routes=list(recorded.routes()))
    server = Quiet(uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        recorded.is_over = True
        server.should_exit = True
        thread.join()
        listener.close()
