"""transformers' ContinuousBatchingManager, stepped by us.

Its own thread is not used: it would run ahead of cancellations, keep a process that ends from ending, and where it dies
nobody would notice. What its loop does, a step does here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from math import ceil
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessorList

from consumer.generation.detokeniser import Decode
from consumer.generation.engine import EVERYTHING, Sequence
from consumer.generation.library_engine import News
from shared.wire.outcomes import RequestError

from .choosing import Choosing

PAGE_TOKENS = 32
PROMPT_TOKENS = {"cpu": 64}
"""Tokens of prompts that a step reads, by device: what those that decode wait longer for it."""
PROMPT_TOKENS_ELSEWHERE = 1024


@dataclass(slots=True)
class _Member:
    """A sequence in the library.

    Attributes:
        tokens: what was made of it here.
        name: the manager's name of it; empty while it is not in there.
        before: how many tokens were there when it entered.
    """

    sequence: Sequence
    tokens: list[int] = field(default_factory=list)
    name: str = ""
    before: int = 0


class TransformersLibrary:
    """See :class:`consumer.generation.library_engine.Library`.

    There are pages for all sequences in their whole length, so that none is ever taken from one that runs.

    Args:
        model: a causal language model in evaluation mode, on its device. It is changed.
        slots: sequences at once.
        context: most tokens of a sequence.
        decode: the text of tokens.
        prompt_tokens: tokens of prompts that a step reads; None chooses by the device.

    Raises:
        ValueError: its attention has no such batching.
    """

    promises = EVERYTHING

    def __init__(
        self, model: PreTrainedModel, slots: int, context: int, decode: Decode, prompt_tokens: int | None = None
    ) -> None:
        config: Any = model.config.get_text_config()
        self.vocabulary: int = config.vocab_size
        self.context = min(context, config.max_position_embeddings)
        device = model.device.type
        prompts = prompt_tokens or PROMPT_TOKENS.get(device, PROMPT_TOKENS_ELSEWHERE)
        batching = ContinuousBatchingConfig(
            page_size=PAGE_TOKENS,
            num_blocks=slots * ceil(self.context / PAGE_TOKENS),
            max_batch_tokens=slots + prompts,
            max_requests_per_batch=slots,
            safety_margin=0.0,
            allow_block_sharing=False,
            use_async_batching=False,  # tokens are chosen here, before the next batch is put together
            use_cuda_graph=False,
            auto_switch_to_flash=device == "cuda",
        )
        greedy = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0, max_new_tokens=self.context)
        self._choosing = Choosing(decode)
        begin: Any = model.init_continuous_batching
        self._manager: Any = begin(generation_config=greedy, continuous_batching_config=batching)
        processors = ContinuousBatchingLogitsProcessorList(LogitsProcessorList([self._choosing]))
        processors.tensors_required = 1
        self._manager.logit_processor = processors
        with torch.inference_mode():
            self._manager.warmup()  # makes the processor of batches
        self._batches: Any = self._manager.batch_processor
        self._model = model
        self._members: dict[str, _Member] = {}
        self._keys: dict[str, str] = {}
        self._names = count()
        self._suspects: list[str] = []
        self._parked: list[str] = []

    def add(self, key: str, sequence: Sequence) -> None:
        """See the interface."""
        self._members[key] = _Member(sequence)
        if self._suspects:
            self._parked.append(key)
        else:
            self._enter(key)

    @torch.inference_mode()
    def step(self) -> Iterable[News]:
        """See the interface."""
        if self._suspects:
            return self._try(self._suspects.pop(0))
        news = self._pass()
        if self._choosing.is_spoiled:
            self._suspects = list(self._keys.values())
            for key in self._suspects:
                self._leave(self._members[key])
        return news

    def cancel(self, key: str) -> None:
        """See the interface."""
        member = self._members.pop(key, None)
        if member is None:
            return
        if member.name:
            self._leave(member)
        self._suspects = [one for one in self._suspects if one != key]
        self._parked = [one for one in self._parked if one != key]
        self._go_on()

    def _try(self, key: str) -> list[News]:
        """Move one on alone, by a token, to find the one whose output is not finite; then all others go on."""
        self._enter(key)
        news: list[News] = []
        for _ in range(self.context):  # its tokens are read in pieces of at least one
            news = self._pass()
            if news:
                break
        if not news:
            raise RuntimeError("transformers' batching gives no token for a sequence")
        if key in self._members:
            self._leave(self._members[key])
            if news[0].error is None:
                self._parked.append(key)
        self._go_on()
        return news

    def _go_on(self) -> None:
        if not self._suspects:
            for key in self._parked:
                self._enter(key)
            self._parked = []

    def _pass(self) -> list[News]:
        batches, results = self._batches, self._manager.output_router.output_queue
        if batches.prepare_next_batch():
            batches._generation_step(self._model)
            batches.update_batch()
        news: list[News] = []
        while not results.empty():
            result = results.get_nowait()
            if result.error is not None:
                raise RuntimeError(result.error)
            key = self._keys.get(result.request_id)
            if key is not None and not self._choosing.is_spoiled:
                news += self._new(key, result.generated_tokens)
                if result.is_finished():
                    self._forget(self._members.pop(key))
        return news

    def _new(self, key: str, tokens: list[int]) -> list[News]:
        """Return what is new of ``tokens``, all since it entered."""
        member = self._members[key]
        chosen = self._choosing.chosen[member.name]
        news = []
        for at in range(len(member.tokens) - member.before, len(tokens)):
            said = chosen[at]
            news.append(News(key, error=said) if isinstance(said, RequestError) else News(key, tokens[at], said))
            member.tokens.append(tokens[at])
        return news

    def _enter(self, key: str) -> None:
        member = self._members[key]
        sequence, made = member.sequence, len(member.tokens)
        member.name, member.before = str(next(self._names)), made  # a name that was cancelled cannot be used again
        self._keys[member.name] = key
        self._choosing.add(member.name, sequence, made)
        self._manager.add_request(
            [*sequence.prompt, *sequence.generated, *member.tokens],
            request_id=member.name,
            max_new_tokens=sequence.max_tokens - len(sequence.generated) - made,
            streaming=True,
            eos_token_id=-1,
        )

    def _leave(self, member: _Member) -> None:
        self._manager.cancel_request(member.name)
        self._forget(member)

    def _forget(self, member: _Member) -> None:
        self._choosing.drop(member.name)
        del self._keys[member.name]
        member.name = ""

    def close(self) -> None:
        """See the interface."""
        self._manager.destroy()
        del self._batches, self._manager, self._model
