"""The front end alone: with a queue in this process that answers at once with what a consumer has answered before.

`python -m tests.perf.programs.front_end_alone MODEL CARD_FILE REPLY_FILE` serves on a free port and prints it. Nothing
that answers requests through this front end, a cache included, can be quicker.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from producer_api.app import create_app
from producer_api.http import server
from producer_api.metrics import new_registry
from producer_api.queue.interface import Answer, Catalogue, GiveUp, ModelState, Parts
from shared.keys import DEFAULT_LANE
from shared.settings import Settings
from shared.state.cards import Card
from shared.wire.messages import Reply, Request, decode_reply
from shared.wire.outcomes import RequestError
from tests.fakes import InMemoryQueue


class AtOnce(InMemoryQueue):
    """Answers every request with the same reply."""

    def __init__(self, model: str, card: Card, reply: Reply) -> None:
        super().__init__()
        self._seen = Catalogue({model: ModelState(model, card, workers=1)}, redis_ok=True)
        self._reply = reply

    def catalogue(self) -> Catalogue:
        """See the interface."""
        return self._seen

    def begin(
        self,
        state: ModelState,
        request: Request,
        *,
        id_is_generated: bool,
        done: Callable[[Answer | RequestError], None],
        fingerprint: str = "",
        lane: str = DEFAULT_LANE,
        run_ms: int = 0,
        parts: Parts | None = None,
    ) -> GiveUp:
        """See the interface."""
        done(Answer(msgspec.structs.replace(self._reply, id=request.id), is_short=True))
        return _nothing


def _nothing() -> None:
    """Be called."""


def main() -> None:
    """Take a free port and serve."""
    model, card_file, reply_file = sys.argv[1:]
    card = msgspec.convert(msgspec.json.decode(Path(card_file).read_bytes()), Card)
    queue = AtOnce(model, msgspec.structs.replace(card, cache=None), decode_reply(Path(reply_file).read_bytes()))
    listener = server.bind("127.0.0.1", 0)
    assert isinstance(listener, socket.socket)
    print(f"Serving on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    sys.exit(server.run(create_app(Settings(), queue, new_registry()), listener, 1.0))


if __name__ == "__main__":
    main()
