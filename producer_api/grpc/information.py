"""The methods that ask nothing of a model: is it live, is it ready, what is there. They ask Redis nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import DecodeError

from producer_api.queue.interface import Queue
from shared.version import __version__
from shared.wire.outcomes import malformed

from .schema import message_class

Answer = Callable[[bytes], bytes]


class Information:
    """Answers from the latest snapshot.

    Args:
        is_ready: what ``/readyz`` says, too.
    """

    def __init__(self, queue: Queue, is_ready: Callable[[], bool]) -> None:
        self._queue, self._is_ready = queue, is_ready

    def methods(self) -> Mapping[str, Answer]:
        """Return what answers each method, from its message to the answer's."""
        return {
            "ServerLive": lambda _: _made("ServerLiveResponse", live=True),
            "ServerReady": lambda _: _made("ServerReadyResponse", ready=self._is_ready()),
            "ServerMetadata": lambda _: _made("ServerMetadataResponse", name="headrace", version=__version__),
            "ModelReady": self._model_ready,
        }

    def _model_ready(self, message: bytes) -> bytes:
        asked = _parsed("ModelReadyRequest", message)
        state = self._queue.catalogue().resolve(asked.name, "")
        return _made("ModelReadyResponse", ready=state is not None and state.is_ready)


def _made(kind: str, /, **members: Any) -> bytes:
    made: bytes = message_class(kind)(**members).SerializeToString()
    return made


def _parsed(name: str, message: bytes) -> Any:
    try:
        return message_class(name).FromString(message)
    except DecodeError as error:
        raise malformed(f"The message is not a valid {name}: {str(error)[:120]}.") from None
