"""[I/O] Asks two services the same few fixed inputs, alone and side by side, and compares what they answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final

from loadgen.load.service import Reply, Unreachable, ask, infer, is_answer
from loadgen.results.comparefile import Answer
from loadgen.scenario import JSON, Payload, Target
from loadgen.workloads.bodies import whole_answer_body

from . import answers, text_answers

MOST_INPUTS: Final = 8
TOGETHER: Final = 16
"""Requests that are sent at a time, so that they share batches: rows may be mixed up there and nowhere else."""


@dataclass(slots=True)
class AskedService:
    """One of the two services. `answered` counts the answers that it gave, errors included.

    `openai_path`: where a workload's requests go; None: they are requests of our own API.
    """

    target: Target
    model: str
    timeout_s: float
    openai_path: str | None = None
    answered: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    """By the hash of an input: why there was no answer to it, at least once."""

    def ask(self, payloads: Sequence[Payload], at_a_time: int) -> list[Any]:
        """Return the parsed answers, None where there was none."""
        with ThreadPoolExecutor(at_a_time) as pool:
            replies = list(pool.map(self._ask_one, payloads))
        self.answered += sum(not isinstance(reply, str) for reply in replies)
        found = []
        for payload, reply in zip(payloads, replies, strict=True):
            answer = None if isinstance(reply, str) else self._answer_in(reply)
            if answer is None:
                self.failures[payload.sha256] = reply if isinstance(reply, str) else reply.error_sentence()
            found.append(answer)
        return found

    def _answer_in(self, reply: Reply) -> Any:
        """Return what `answers.distance` compares, or None where the reply has no answer."""
        if self.openai_path is not None:
            return text_answers.comparable(reply.json()) if reply.status == 200 else None
        return reply.json() if is_answer(reply) else None

    def _ask_one(self, payload: Payload) -> Reply | str:
        try:
            if self.openai_path is None:
                return infer(self.target, self.model, payload, self.timeout_s)
            body = whole_answer_body(payload.body)
            return ask(self.target, "POST", self.openai_path, self.timeout_s, body, JSON)
        except Unreachable as error:
            return str(error).rstrip(".")


def compare_answers(base: AskedService, candidate: AskedService, payloads: Sequence[Payload]) -> list[Answer]:
    """Ask both for the first few of `payloads`, each alone, and then all of them together.

    The base's first answer to an input, given while nothing else ran, is what all others are compared with, its own
    among them: a model that answers at random is found out so.
    """
    chosen = list({payload.sha256: payload for payload in payloads}.values())[:MOST_INPUTS]
    crowd = [number % len(chosen) for number in range(max(TOGETHER, len(chosen)))]
    together = [chosen[number] for number in crowd]
    alone, own = base.ask(chosen, 1), base.ask(together, len(crowd))
    theirs = candidate.ask(chosen, 1), candidate.ask(together, len(crowd))
    found = []
    for number, payload in enumerate(chosen):
        places = [place for place, one in enumerate(crowd) if one == number]
        itself = [own[place] for place in places]
        others = [theirs[1][place] for place in places]
        found.append(_compared(payload, alone[number], itself, (theirs[0][number], others), base, candidate))
    return found


def _compared(
    payload: Payload,
    reference: Any,
    own: Sequence[Any],
    theirs: tuple[Any, Sequence[Any]],
    base: AskedService,
    candidate: AskedService,
) -> Answer:
    """Compare all answers to one input with the reference; `theirs` are the one given alone, and those among others."""
    failed, failed_now = base.failures.get(payload.sha256), candidate.failures.get(payload.sha256)
    itself = answers.farthest(answers.distance(reference, answer) for answer in own)
    found = answers.farthest(
        replace(one, what=f"{one.what}, asked {how}")
        for how, given in (("alone", (theirs[0],)), ("among others", theirs[1]))
        for one in (answers.distance(reference, answer) for answer in given)
    )
    return Answer(
        payload=payload.name,
        sha256=payload.sha256,
        base_failure=failed,
        candidate_failure=failed_now,
        difference=None if failed or failed_now else _finite(found.value),
        what="" if failed or failed_now else found.what,
        own_difference=None if failed else _finite(itself.value),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
