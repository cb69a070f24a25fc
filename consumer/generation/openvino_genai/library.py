"""OpenVINO GenAI's ContinuousBatchingPipeline: quick on Intel's CPUs; it reads a GGUF file as it is, in few bits."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from consumer.generation.detokeniser import Decode
from consumer.generation.engine import Promises, Sequence, TokenLogprobs
from consumer.generation.library_engine import News
from consumer.generation.reseeding import seed_from

# Without this package OpenVINO reports nothing to anybody; docs/dependencies.md
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
import openvino  # noqa: E402
import openvino_genai  # noqa: E402

BLOCK_TOKENS = 32
"""Tokens of a block of keys and values on a CPU."""

PROMPT_TOKENS = 64
"""Tokens of prompts that a step reads: what those that decode wait longer for it."""

EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
}
"""By itself it rounds keys, values and activations, and otherwise in a prompt than while it generates: of 15 texts that
went on from their middle 8 became others. So, none did; a token takes 1.7 times as long."""

PROMISES = Promises(draws_go_on=False, logprobs=0, schemas=False)


class _Member(NamedTuple):
    handle: Any
    wants_logprobs: bool


class OpenVinoLibrary:
    """See :class:`consumer.generation.library_engine.Library`.

    There are blocks for all sequences in their whole length, so that none is ever taken from one that runs.

    Args:
        file: a GGUF file.
        slots: sequences at once.
        context: most tokens of a sequence; the model's own context, or less.
        vocabulary: how many tokens there are.
        decode: the text of tokens.
        prompt_tokens: tokens of prompts that a step reads.
    """

    promises = PROMISES

    def __init__(
        self,
        file: Path,
        slots: int,
        context: int,
        vocabulary: int,
        decode: Decode,
        prompt_tokens: int = PROMPT_TOKENS,
    ) -> None:
        self.context, self.vocabulary, self._decode = context, vocabulary, decode
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = 0
        scheduler.num_kv_blocks = (slots + 1) * ceil(context / BLOCK_TOKENS)  # a cancelled one goes with the next step
        scheduler.max_num_seqs = slots + 1
        scheduler.max_num_batched_tokens = slots + prompt_tokens
        scheduler.dynamic_split_fuse = True
        scheduler.enable_prefix_caching = False
        self._pipeline: Any = openvino_genai.ContinuousBatchingPipeline(
            str(file), scheduler_config=scheduler, device="CPU", properties=EXACT
        )
        self._members: dict[str, _Member] = {}

    def add(self, key: str, sequence: Sequence) -> None:
        """See the interface."""
        tokens = np.array([[*sequence.prompt, *sequence.generated]], dtype=np.int64)
        wants = sequence.sampling.logprobs is not None
        handle = self._pipeline.add_request(int(key), openvino.Tensor(tokens), _configured(sequence))
        self._members[key] = _Member(handle, wants)

    def step(self) -> Iterable[News]:
        """See the interface."""
        self._pipeline.step()
        news: list[News] = []
        for key, member in list(self._members.items()):
            while member.handle.can_read():
                for output in member.handle.read().values():
                    likely = output.generated_log_probs if member.wants_logprobs else ()
                    news += self._new(key, output.generated_ids, likely)
            if member.handle.get_status() != openvino_genai.GenerationStatus.RUNNING:
                del self._members[key]
        return news

    def _new(self, key: str, tokens: Iterable[int], likely: Iterable[float]) -> Iterable[News]:
        values = iter(likely)
        for token in tokens:
            value = next(values, None)
            said = () if value is None else (TokenLogprobs(token, self._decode([token]), value),)
            yield News(key, token, said)

    def cancel(self, key: str) -> None:
        """See the interface."""
        member = self._members.pop(key, None)
        if member is not None:
            member.handle.cancel()

    def close(self) -> None:
        """See the interface."""
        self._members.clear()
        del self._pipeline


def _configured(sequence: Sequence) -> Any:
    asked, made = sequence.sampling, len(sequence.generated)
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = sequence.max_tokens - made
    config.ignore_eos = True
    if asked.temperature > 0:
        config.do_sample = True
        config.temperature = asked.temperature
        config.top_p = asked.top_p
        if asked.top_k:
            config.top_k = asked.top_k
        config.rng_seed = seed_from(asked.seed, made)
    if asked.logprobs is not None:
        config.logprobs = 1
    return config
