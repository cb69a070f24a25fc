"""A handler as a model: rows in, one call of ``handle`` a batch, answers out as bytes with their types."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from consumer.models.base import IMAGES, RAW, Description, Model, Result
from consumer.models.load_errors import said_by
from consumer.models.model_errors import described
from shared.mar import serving
from shared.mar.manifest import Manifest
from shared.state.cards import HANDLED, TensorSpec
from shared.wire.messages import Request, Tensor
from shared.wire.outcomes import INVALID_INPUT, MODEL_ERROR, RequestError

from . import answers, entry, rows, samples
from .rows import Row
from .ts.context import Context
from .ts.util import PredictionException

if TYPE_CHECKING:
    from consumer.models.pictures.decode_cost import Effort

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """An unpacked archive.

    Attributes:
        folder: absolute.
        remove: removes what was made for it.
    """

    folder: Path
    manifest: Manifest
    remove: Callable[[], None]


class Source(Protocol):
    """Where an archive comes from."""

    def open(self) -> Opened:
        """Return the unpacked archive."""


class HandlerModel(Model):
    """Runs a handler.

    Args:
        source: the archive, which each ``load`` opens.
        trust: weights may be any pickle.
        max_batch: what the handler is told that a batch has at most.
        samples: a folder of bodies that clients send, to warm up with; None for what is known to fit, or none.
    """

    def __init__(self, source: Source, trust: bool, max_batch: int, samples: str | None) -> None:
        self._source, self._trust, self._max_batch, self._folder_of_samples = source, trust, max_batch, samples
        self._opened: Opened | None = None
        self._handle: entry.Handle | None = None
        self._context: Context | None = None
        self._samples: Sequence[Row] = (rows.BLANK,)

    def describe(self) -> Description:
        """Say that bytes come in, and bytes with a type go out."""
        return Description(
            inputs=(TensorSpec("data", "BYTES", ()),),
            outputs=HANDLED,
            content_types=(RAW, *IMAGES, rows.TEXT),
        )

    def load(self, device: str, precision: str) -> None:
        """See the interface; calls the handler's ``initialize``."""
        self._opened = opened = self._source.open()
        self._context = context = Context.of_a_model(
            opened.manifest.document,
            opened.folder,
            self._max_batch,
            0 if device == "cuda" else None,
            serving.document(opened.folder, opened.manifest.model),
            trust=self._trust,
        )
        self._handle, is_vision = entry.load(opened.folder, opened.manifest.model, context)
        self._samples = samples.find(self._folder_of_samples, is_vision=is_vision)
        if self._samples[0] is rows.BLANK:
            log.info(
                "This handler is not warmed up: `samples` in its table would name a folder of requests such as "
                "clients send."
            )

    def preprocess(self, request: Request) -> Sequence[Row]:
        """See the interface."""
        return rows.of_request(request)

    def run(self, rows: Sequence[Row]) -> Sequence[answers.Answer | RequestError]:
        """See the interface; the rows of a whole batch are one call of the handler.

        Raises:
            RequestError: ``MODEL_ERROR``: it raised, exited or returned something else than one answer per row.
        """
        real = [row for row in rows if not row.is_blank]
        if not real:
            return [answers.NOTHING] * len(rows)
        assert self._handle is not None
        assert self._context is not None
        context = self._context
        context.begin([row.request_id for row in real], [row.headers() for row in real])
        try:
            returned = self._handle([row.data() for row in real], context)
            return answers.checked(returned, len(real), context)
        except RequestError:
            raise
        except MemoryError:
            raise
        except SystemExit as error:
            raise RequestError(MODEL_ERROR, f"The handler failed: {said_by(error)}") from error
        except PredictionException as error:
            is_the_clients = 400 <= error.error_code < 500
            raise RequestError(INVALID_INPUT if is_the_clients else MODEL_ERROR, error.message) from error
        except Exception as error:
            if _is_out_of_memory(error):
                raise
            log.error("The handler raised %s.", described(error), exc_info=error)
            raise RequestError(
                MODEL_ERROR, f"The handler raised {type(error).__name__[:80]}; the log says more."
            ) from None

    def postprocess(self, outputs: Sequence[answers.Answer | RequestError], request: Request) -> Result:
        """See the interface."""
        done = []
        for one in outputs:
            if isinstance(one, RequestError):
                raise one
            done.append(one)
        types, bodies = [one.content_type.encode() for one in done], [one.body for one in done]
        parts = zip(HANDLED, (bodies, types), strict=True)
        return Result(outputs=[Tensor(s.name, s.datatype, (len(of),), rows.packed(of)) for s, of in parts])

    def sample_rows(self, count: int) -> Sequence[Row]:
        """See the interface; rows that are passed over, where none are known."""
        return [self._samples[at % len(self._samples)] for at in range(count)]

    def example(self) -> Request | None:
        """See the interface."""
        return self._samples[0].request()

    def close(self) -> None:
        """See the interface; forgets the handler's modules, so that another archive may have those names."""
        opened, self._opened, self._handle, self._context = self._opened, None, None, None
        if opened is None:
            return
        entry.forget(opened.folder)
        opened.remove()

    def decodes(self, request: Request) -> bool:
        """Say no: the handler decodes."""
        return False

    def effort(self, request: Request) -> Effort | None:
        """Say nothing: the handler decodes."""
        return None


def _is_out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    with suppress(Exception):
        return torch is not None and isinstance(error, torch.OutOfMemoryError)
    return False
