"""vLLM's engine in this process, stepped by us. Its pins exclude ours: see the consumer's image for it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from math import ceil
from pathlib import Path
from typing import Any

from consumer.generation.detokeniser import Decode
from consumer.generation.engine import MOST_TOP_LOGPROBS, Promises, Sequence, TokenLogprobs
from consumer.generation.library_engine import News
from consumer.generation.reseeding import seed_from

SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # its core in this process, so that a step is a call
    "VLLM_CONFIGURE_LOGGING": "0",  # the consumer's log is ours
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # on which cores a consumer runs is Headrace's choice
    "HF_HUB_OFFLINE": "1",
}
"""What vLLM reads from the environment when it is imported; what you set yourself stays."""

PROMISES = Promises(draws_go_on=False, logprobs=MOST_TOP_LOGPROBS, schemas=False)
MOST_BLOCK_TOKENS = 128
"""Tokens of a block of keys and values; on a CPU, elsewhere fewer."""

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


class VllmLibrary:
    """See :class:`consumer.generation.library_engine.Library`.

    Args:
        folder: weights, configuration and tokeniser, as transformers saves them.
        slots: sequences at once.
        context: most tokens of a sequence; the model's own context, or less.
        vocabulary: how many tokens there are.
        decode: the text of tokens.
        precision: ``fp32``, ``fp16`` or ``bf16``.
        device: on ``cpu`` vLLM takes memory for the keys and values of the slots, and not most of the machine's as it
            does by itself; on ``cuda`` it does.
        more: further arguments of vLLM's ``EngineArgs``.

    Attributes:
        slots: sequences for which there is memory in their whole length, so that vLLM takes it from none that runs.

    Raises:
        ValueError: there is not even memory for one.
    """

    promises = PROMISES

    def __init__(
        self,
        folder: Path,
        slots: int,
        context: int,
        vocabulary: int,
        decode: Decode,
        precision: str,
        device: str,
        **more: Any,
    ) -> None:
        if device == "cpu":
            # There is no compiler in most places, and compiling takes minutes.
            more = {
                "enforce_eager": True,
                "kv_cache_memory_bytes": _cache_bytes(folder, slots, context, precision),
                **more,
            }
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        from vllm import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        arguments = EngineArgs(
            model=str(folder),
            dtype=DTYPES[precision],
            max_model_len=context,
            max_num_seqs=slots,
            disable_log_stats=True,
            trust_remote_code=False,
            load_format="safetensors",
            **more,
        )
        self.context, self.vocabulary, self._decode = context, vocabulary, decode
        self._most_top: dict[str, int] = {}
        self._engine: Any = LLMEngine.from_engine_args(arguments)
        cache = self._engine.vllm_config.cache_config
        tokens = cache.num_gpu_blocks * cache.block_size
        self.slots = min(slots, tokens // context)
        if not self.slots:
            raise ValueError(f"vLLM has memory for the keys of {tokens} tokens, and a text may have {context}.")

    def add(self, key: str, sequence: Sequence) -> None:
        """See the interface."""
        tokens = [*sequence.prompt, *sequence.generated]
        self._most_top[key] = sequence.sampling.logprobs or 0
        self._engine.add_request(key, {"prompt_token_ids": tokens}, _sampling(sequence))

    def step(self) -> Iterable[News]:
        """See the interface."""
        news: list[News] = []
        for output in self._engine.step():
            key, [choice] = output.request_id, output.outputs
            if key not in self._most_top:
                continue
            for at, token in enumerate(choice.token_ids):
                found = None if choice.logprobs is None else choice.logprobs[at]
                likely = () if found is None else (self._logprobs(token, found, self._most_top[key]),)
                news.append(News(key, token, likely))
            if output.finished:
                del self._most_top[key]
        return news

    def _logprobs(self, token: int, found: dict[int, Any], most: int) -> TokenLogprobs:
        """Return what vLLM reports: the likeliest tokens, and the one that was drawn if it is none of them."""
        best = sorted((one.rank, id) for id, one in found.items() if one.rank <= most)
        top = tuple((id, self._decode([id]), float(found[id].logprob)) for _, id in best)
        return TokenLogprobs(token, self._decode([token]), float(found[token].logprob), top)

    def cancel(self, key: str) -> None:
        """See the interface."""
        if self._most_top.pop(key, None) is not None:
            self._engine.abort_request([key])

    def close(self) -> None:
        """See the interface."""
        self._engine.engine_core.shutdown()
        del self._engine


def _cache_bytes(folder: Path, slots: int, context: int, precision: str) -> int:
    """Return what keys and values of all slots take, in whole blocks, and a block that vLLM keeps for itself."""
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(str(folder), local_files_only=True).get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token = 2 * config.num_hidden_layers * heads * size * (4 if precision == "fp32" else 2)
    return int((slots * ceil(context / MOST_BLOCK_TOKENS) + 2) * MOST_BLOCK_TOKENS * token)


def _sampling(sequence: Sequence) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    asked, made = sequence.sampling, len(sequence.generated)
    return SamplingParams(
        max_tokens=sequence.max_tokens - made,
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k,
        seed=seed_from(asked.seed, made),
        logprobs=asked.logprobs,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )
