"""The methods that ask nothing of a model: is it live, is it ready, what is there. They ask Redis nothing.

The documents are those of REST; here they become messages, member by member of the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError

from producer_api.inference.open_inference import metadata as described
from producer_api.inference.open_inference.metadata import ServerLive, ServerReady, StatisticsResponse
from producer_api.inference.statistics import Statistics
from producer_api.queue.admission import card_of, check_version, find_model, no_model_known
from producer_api.queue.interface import ModelState, Queue
from shared.version import __version__
from shared.wire.outcomes import RequestError, malformed

from .schema import message_class

Answer = Callable[[bytes], bytes]


class Information:
    """Answers from the latest snapshot, and from what this front end has counted.

    Args:
        is_ready: what ``/readyz`` says, too.
    """

    def __init__(self, queue: Queue, statistics: Statistics, is_ready: Callable[[], bool]) -> None:
        self._queue, self._statistics, self._is_ready = queue, statistics, is_ready

    def methods(self) -> Mapping[str, Answer]:
        """Return what answers each method, from its message to the answer's."""
        return {
            "ServerLive": lambda _: _made("ServerLiveResponse", ServerLive(True)),
            "ServerReady": lambda _: _made("ServerReadyResponse", ServerReady(self._is_ready())),
            "ServerMetadata": lambda _: _made("ServerMetadataResponse", described.server_metadata(__version__)),
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_configuration,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._index,
        }

    def _state(self, kind: str, message: bytes) -> ModelState:
        asked = _parsed(kind, message)
        state = find_model(self._queue.catalogue(), asked.name, "")
        if asked.version:
            check_version(state, asked.version)
        return state

    def _model_ready(self, message: bytes) -> bytes:
        try:
            ready = self._state("ModelReadyRequest", message).is_ready
        except RequestError as error:
            if error.outcome.status == 400:
                raise
            ready = False  # the answer of this method, where that of REST is 404 or 503
        return _made("ModelReadyResponse", {"ready": ready})

    def _model_metadata(self, message: bytes) -> bytes:
        state = self._state("ModelMetadataRequest", message)
        return _made("ModelMetadataResponse", described.metadata(state, card_of(state)))

    def _model_configuration(self, message: bytes) -> bytes:
        state = self._state("ModelConfigRequest", message)
        return _made("ModelConfigResponse", {"config": described.configuration(card_of(state))})

    def _model_statistics(self, message: bytes) -> bytes:
        if _parsed("ModelStatisticsRequest", message).name:
            states = [self._state("ModelStatisticsRequest", message)]
            card_of(states[0])
        else:
            states = self._known()
        counted = [
            described.statistics(state, state.card, self._statistics.of(state.name))
            for state in states
            if state.card is not None
        ]
        return _made("ModelStatisticsResponse", StatisticsResponse(counted))

    def _index(self, message: bytes) -> bytes:
        only_ready = _parsed("RepositoryIndexRequest", message).ready
        found = [described.repository_entry(state) for state in self._known() if state.is_ready or not only_ready]
        return _made("RepositoryIndexResponse", {"models": found})

    def _known(self) -> list[ModelState]:
        catalogue = self._queue.catalogue()
        if not catalogue.models and not catalogue.redis_ok:
            raise no_model_known()
        return [state for _, state in sorted(catalogue.models.items())]


def _made(kind: str, document: object) -> bytes:
    """Make a message of a document; what only REST shows is left out."""
    found: Any = ParseDict(msgspec.to_builtins(document), message_class(kind)(), ignore_unknown_fields=True)
    made: bytes = found.SerializeToString()
    return made


def _parsed(kind: str, message: bytes) -> Any:
    try:
        return message_class(kind).FromString(message)
    except DecodeError as error:
        raise malformed(f"The message is not a valid {kind}: {str(error)[:120]}.") from None
