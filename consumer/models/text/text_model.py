"""An encoder behind the queue: texts in; vectors, classes or scores out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from consumer.batching.by_length import parts_by_length
from consumer.batching.parts import parts
from consumer.models.base import Description, Model, Result
from consumer.runtimes.oom_splitting import OomSplitting
from shared.state.cards import TensorSpec
from shared.wire.messages import Request
from shared.wire.outcomes import MODEL_ERROR, RequestError

from .answers import Answered, Answers
from .folder import CLASSIFICATION, EMBEDDING, RERANKING, OpenFolder
from .requests import PACKED, PLAIN, QUERY, TEXT, asked
from .samples import sample_lengths

if TYPE_CHECKING:
    from .encoder import Encoder
    from .rows import Row, RowMaker

UNIT = "token"
TORCH = "torch"


class TextModel(Model):
    """Embeds, classifies or ranks texts. A row is a text as tokens; a batch is counted in tokens.

    Args:
        threads: of torch, for one batch.
        asked: the runtime that was named, or ``auto``.
    """

    def __init__(self, folder: OpenFolder, threads: int, asked: str) -> None:
        self._folder, self._threads, self._asked = folder, threads, asked
        self._encoder: Encoder | None = None
        self._maker: RowMaker | None = None
        self._answers: Answers | None = None
        self._padded_rows = self._padded_tokens = 0
        self._in_parts: OomSplitting[NDArray[np.float32]] = OomSplitting(self._run_part)

    def load(self, device: str, precision: str) -> None:
        """Load tokenizer and network; torch and transformers are imported here."""
        from .environment import prepare_for_transformers

        prepare_for_transformers()
        import torch

        from .encoder import Encoder
        from .rows import RowMaker

        if device == "cpu":
            torch.set_num_threads(self._threads)
        folder = self._folder
        encoder = Encoder(folder, device, precision, self._threads)
        self._maker = RowMaker(folder, encoder.context)
        self._encoder, self._answers = encoder, Answers(folder, encoder.width)

    def describe(self) -> Description:
        """Describe the loaded model: BYTES in, a vector, a score or classes out, and the tokens of each text."""
        encoder, answers, folder = self._loaded(), self._answers, self._folder
        assert answers is not None
        pairs, embeds = folder.task == RERANKING, folder.task == EMBEDDING
        return Description(
            inputs=tuple(TensorSpec(name, "BYTES", ()) for name in ((QUERY, TEXT) if pairs else (TEXT,))),
            outputs=answers.outputs,
            content_types=(PACKED,) if pairs else (PLAIN, PACKED),
            labels=self._folder.labels or None,
            unit=UNIT,
            gives_tensors=self._folder.task == CLASSIFICATION,
            most_units=self._folder.batch_tokens,
            pads_rows=not encoder.packs,
            task=self._folder.task,
            context=encoder.context,
            dimensions=encoder.width if embeds else None,
            pooling=folder.pooling if embeds else "",
            normalize=folder.normalizes if embeds else None,
        )

    def preprocess(self, request: Request) -> Sequence[Row]:
        """Tokenise a request."""
        maker, answers = self._maker, self._answers
        if maker is None or answers is None:
            raise RuntimeError("The model has not been loaded.")
        answers.check(request)
        what = asked(request, self._folder.task == RERANKING)
        if what.tokens is not None:
            return maker.of_tokens(what.tokens, what.truncates, what.field)
        return maker.of_texts(what.texts or (), what.truncates, what.field)

    def run(self, rows: Sequence[Row]) -> Sequence[Answered]:
        """Return what the network says of each row; more tokens than a batch may have are run in parts."""
        encoder, lengths = self._loaded(), [len(row.ids) for row in rows]
        found: list[Any] = [None] * len(rows)
        cut = parts if encoder.packs else parts_by_length
        for places in cut(lengths, self._folder.batch_tokens):
            part = self._in_parts([rows[place] for place in places])
            if not encoder.packs:
                longest = max(lengths[place] for place in places)
                spare = longest * len(places) - sum(lengths[place] for place in places)
                self._padded_rows += spare // longest
                self._padded_tokens += spare
            for place, values in zip(places, part, strict=True):
                found[place] = Answered(values, lengths[place])
        return found

    def _run_part(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        return self._loaded().run(rows)

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """Make the answer.

        Raises:
            RequestError: an output is not finite.
        """
        assert self._answers is not None
        if not all(np.isfinite(one.values).all() for one in outputs):
            raise RequestError(MODEL_ERROR, "The model's output for this input is not finite.")
        return self._answers.of(outputs, request)

    def sample_rows(self, count: int) -> Sequence[Row]:
        """Return texts of random tokens whose lengths are spread as those of real ones are."""
        from .rows import Row

        context, vocabulary = self._loaded().context, self._folder.vocabulary
        random = np.random.default_rng(1)
        tokens = random.integers(vocabulary // 8, vocabulary, (context,))
        return [Row(np.resize(np.roll(tokens, place), length)) for place, length in sample_lengths(count, context)]

    def units(self, row: Any) -> int:
        """Return its tokens."""
        return len(row.ids)

    def example(self) -> Request | Mapping[str, Any] | str | bytes | None:
        """Return a text, or a query with one."""
        if self._folder.task == RERANKING:
            return {QUERY: "What do cats eat?", TEXT: "Cats eat mice."}
        return "A cat sits on the mat."

    def precisions(self, device: str) -> Sequence[str]:
        """See the interface."""
        return ("fp32", "bf16") if device == "cpu" else ("fp32", "bf16", "fp16")

    def runtime(self) -> tuple[str, str]:
        """See the interface."""
        why = "" if self._encoder is None else self._encoder.why
        if self._asked in ("auto", TORCH):
            return TORCH, why
        return TORCH, f"{self._asked} does not run encoders; torch serves. {why}".rstrip()

    def working_rows(self) -> int | None:
        """See the interface."""
        return self._in_parts.working_rows

    def padded_rows(self) -> int:
        """See the interface; in rows of the longest text of their batch."""
        return self._padded_rows

    def padded_units(self) -> int:
        """See the interface."""
        return self._padded_tokens

    def close(self) -> None:
        """Let the network go, and its threads."""
        if self._encoder is not None:
            self._encoder.close()
        self._encoder = None

    def _loaded(self) -> Encoder:
        if self._encoder is None:
            raise RuntimeError("The model has not been loaded.")
        return self._encoder
