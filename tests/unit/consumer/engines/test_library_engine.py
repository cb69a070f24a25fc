"""What an engine of another library leaves to Headrace, with a library that repeats the prompt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from consumer.generation import checks, null_engine
from consumer.generation.engine import EVERYTHING, EngineDied, Finish, Promises, Sampling, Sequence
from consumer.generation.library_engine import LibraryEngine, News
from shared.wire.outcomes import MODEL_ERROR, UNSUPPORTED, RequestError

END = null_engine.END


class Repeats:
    """Gives ``at_once`` tokens of each sequence in a step, those that joined last first."""

    def __init__(self, at_once: int = 1, promises: Promises = EVERYTHING) -> None:
        self.context, self.vocabulary, self.promises = 32, null_engine.VOCABULARY, promises
        self.at_once, self.cancelled, self.is_closed = at_once, list[str](), False
        self.running: dict[str, list[int]] = {}
        self.fails: BaseException | None = None
        self.error: RequestError | None = None

    def add(self, key: str, sequence: Sequence) -> None:
        made = len(sequence.generated)
        tokens = [sequence.prompt[at % len(sequence.prompt)] for at in range(made, sequence.max_tokens)]
        self.running[key] = tokens

    def step(self) -> Iterable[News]:
        if self.fails is not None:
            raise self.fails
        news: list[News] = []
        for key in reversed(self.running):
            if self.error is not None:
                news.append(News(key, error=self.error))
            news += [News(key, token) for token in self.running[key][: self.at_once]]
            del self.running[key][: self.at_once]
        self.running = {key: left for key, left in self.running.items() if left}
        return news

    def cancel(self, key: str) -> None:
        self.cancelled.append(key)
        self.running.pop(key, None)

    def close(self) -> None:
        self.is_closed = True


def engine_of(library: Repeats, slots: int = 3) -> LibraryEngine:
    return LibraryEngine(library, slots, null_engine.decode, (END,))


def sequence(id: str = "a", prompt: str = "abc", max_tokens: int = 6, **more: Any) -> Sequence:
    return Sequence(id, null_engine.encode(prompt), max_tokens, **more)


def test_steps_come_in_the_order_of_the_starts_whatever_the_library_does() -> None:
    engine = engine_of(Repeats())
    for id in "cab":
        engine.start(sequence(id))
    assert [step.id for step in engine.step()] == ["c", "a", "b"]


def test_several_tokens_at_once_are_one_step_and_what_follows_the_end_is_dropped() -> None:
    library = Repeats(at_once=4)
    engine = engine_of(library)
    engine.start(sequence(max_tokens=12, stop=("ca",)))
    [step] = engine.step()
    assert (step.tokens, step.text, step.finish) == (null_engine.encode("abca"), "ab", Finish.STOP)
    assert len(library.cancelled) == 1
    assert engine.step() == []
    engine.start(Sequence("b", (65, END, 66), 12))
    [step] = engine.step()
    assert (step.tokens, step.text, step.finish) == ((65, END), "A", Finish.STOP)


def test_one_that_used_its_tokens_up_is_not_cancelled() -> None:
    library = Repeats(at_once=6)
    engine = engine_of(library)
    engine.start(sequence())
    assert [step.finish for step in engine.step()] == [Finish.LENGTH]
    assert library.cancelled == []


def test_an_error_of_one_is_its_own() -> None:
    library = Repeats()
    engine = engine_of(library)
    engine.start(sequence())
    library.error = RequestError(MODEL_ERROR, "Not finite.")
    [step] = engine.step()
    assert (step.finish, step.error, step.tokens) == (Finish.ERROR, library.error, ())
    assert engine.capacity().slots == 3


def test_a_library_that_fails_is_an_engine_that_died() -> None:
    library = Repeats()
    engine = engine_of(library)
    engine.start(sequence())
    library.fails = ZeroDivisionError("deep inside")
    with pytest.raises(EngineDied, match="ZeroDivisionError: deep inside"):
        engine.step()
    engine.close()
    assert library.is_closed


def test_what_is_over_already_never_reaches_the_library() -> None:
    library = Repeats()
    library.fails = ZeroDivisionError()
    engine = engine_of(library)
    engine.start(sequence(generated=null_engine.encode("abcabc")))
    assert engine.step() == [("a", (), "", Finish.LENGTH, (), None)]
    assert library.cancelled == []


class Anything:
    """A constraint that allows everything."""

    def allowed(self) -> bytes:
        return b"\xff" * 33

    def advance(self, token: int) -> None:
        """Take it."""


NOTHING = Promises(draws_go_on=False, logprobs=None, schemas=False)


@pytest.mark.parametrize(
    ("promises", "more", "field"),
    [
        (NOTHING, {"constraint": Anything()}, "schema"),
        (NOTHING, {"sampling": Sampling(logprobs=0)}, "logprobs"),
        (Promises(logprobs=2), {"sampling": Sampling(logprobs=3)}, "logprobs"),
        (Promises(logprobs=0), {"sampling": Sampling(logprobs=1)}, "logprobs"),
    ],
)
def test_what_an_engine_does_not_promise_is_refused_by_name(
    promises: Promises, more: dict[str, Any], field: str
) -> None:
    engine = engine_of(Repeats(promises=promises))
    with pytest.raises(RequestError) as refused:
        engine.start(sequence(**more))
    assert (refused.value.outcome, refused.value.field) == (UNSUPPORTED, field)
    assert refused.value.message.endswith(".")
    assert engine.capacity().slots == 3


def test_the_limits_of_an_engine_in_words() -> None:
    assert checks.limits(EVERYTHING) == ""
    assert checks.limits(Promises(logprobs=0)) == "it reports the log-probability of the token alone"
    assert checks.limits(Promises(logprobs=5)) == "beside a token it reports at most 5 others"
    told = checks.limits(NOTHING)
    assert all(word in told for word in ("schema", "log-probabilities", "drawn anew"))
