"""What every engine refuses before a sequence starts. Pure."""

from __future__ import annotations

from math import isfinite

from shared.wire.outcomes import CONTEXT_LENGTH_EXCEEDED, UNSUPPORTED, RequestError, invalid

from .engine import (
    EVERYTHING,
    MOST_SEED,
    MOST_STOP_CHARACTERS,
    MOST_STOPS,
    MOST_TOP_LOGPROBS,
    Promises,
    Sampling,
    Sequence,
)

MOST_TEMPERATURE = 2.0


def check(sequence: Sequence, context: int, vocabulary: int, promises: Promises = EVERYTHING) -> None:
    """Refuse what can never run.

    Args:
        context: most tokens of a sequence, prompt and ``max_tokens`` together.
        vocabulary: how many tokens there are.
        promises: what the engine can do.

    Raises:
        RequestError: one sentence that names the field.
    """
    prompt, asked = len(sequence.prompt), sequence.max_tokens
    if not prompt:
        raise invalid("The prompt must have at least one token.", "prompt")
    if asked < 1:
        raise invalid(f"max_tokens must be at least 1, not {asked}.", "max_tokens")
    check_length(prompt, asked, context)
    for field, tokens in (("prompt", sequence.prompt), ("generated", sequence.generated)):
        wrong = next((token for token in tokens if not 0 <= token < vocabulary), None)
        if wrong is not None:
            raise invalid(f"A token must be from 0 to {vocabulary - 1}, not {wrong}.", field)
    if len(sequence.generated) > asked:
        raise invalid(f"{len(sequence.generated)} tokens were generated, more than max_tokens {asked}.", "generated")
    _check_sampling(sequence.sampling)
    _check_stops(sequence.stop)
    _check_promises(sequence, promises)


def check_length(prompt: int, asked: int, context: int) -> None:
    """Refuse what is longer than the model's context; all in tokens.

    Raises:
        RequestError: ``context_length_exceeded``, with both numbers.
    """
    if prompt + asked > context:
        raise RequestError(
            CONTEXT_LENGTH_EXCEEDED,
            f"This model's context is {context} tokens, but {prompt + asked} were asked for: {prompt} in the prompt "
            f"and {asked} to generate.",
            field="prompt" if prompt >= context else "max_tokens",
        )


def _check_sampling(sampling: Sampling) -> None:
    temperature, top_p, logprobs = sampling.temperature, sampling.top_p, sampling.logprobs
    if not (isfinite(temperature) and 0 <= temperature <= MOST_TEMPERATURE):
        raise invalid(f"temperature must be from 0 to {MOST_TEMPERATURE:g}, not {temperature}.", "temperature")
    if not 0 < top_p <= 1:
        raise invalid(f"top_p must be above 0 and at most 1, not {top_p}.", "top_p")
    if sampling.top_k < 0:
        raise invalid(f"top_k must be at least 0, not {sampling.top_k}.", "top_k")
    if not 0 <= sampling.seed <= MOST_SEED:
        raise invalid(f"seed must be from 0 to {MOST_SEED}, not {sampling.seed}.", "seed")
    if logprobs is not None and not 0 <= logprobs <= MOST_TOP_LOGPROBS:
        raise invalid(f"logprobs must be from 0 to {MOST_TOP_LOGPROBS}, not {logprobs}.", "logprobs")


def _check_stops(stops: tuple[str, ...]) -> None:
    if len(stops) > MOST_STOPS:
        raise invalid(f"stop must be at most {MOST_STOPS} texts, not {len(stops)}.", "stop")
    for number, stop in enumerate(stops):
        if not 1 <= len(stop) <= MOST_STOP_CHARACTERS:
            raise invalid(
                f"A text in stop must have from 1 to {MOST_STOP_CHARACTERS} characters, not {len(stop)}.",
                f"stop[{number}]",
            )


def _check_promises(sequence: Sequence, promises: Promises) -> None:
    asked, most = sequence.sampling.logprobs, promises.logprobs
    if sequence.constraint is not None and not promises.schemas:
        raise RequestError(UNSUPPORTED, "This model's engine cannot hold a text to a schema.", field="schema")
    if asked is not None and most is None:
        raise RequestError(UNSUPPORTED, "This model's engine reports no log-probabilities.", field="logprobs")
    if asked and most == 0:
        told = f"This model's engine reports the log-probability of the token alone, not of {asked} others."
        raise RequestError(UNSUPPORTED, told, field="logprobs")
    if asked is not None and most is not None and asked > most:
        raise RequestError(
            UNSUPPORTED,
            f"This model's engine reports at most {most} of the likeliest tokens, not {asked}.",
            field="logprobs",
        )


def limits(promises: Promises) -> str:
    """Say in words what an engine cannot do, for people who look at a model; empty if there is nothing."""
    found = []
    if not promises.schemas:
        found.append("it keeps to no schema")
    if promises.logprobs is None:
        found.append("it reports no log-probabilities")
    elif promises.logprobs == 0:
        found.append("it reports the log-probability of the token alone")
    elif promises.logprobs < MOST_TOP_LOGPROBS:
        found.append(f"beside a token it reports at most {promises.logprobs} others")
    if not promises.draws_go_on:
        found.append("a sampled text that another consumer goes on with is drawn anew from there")
    return "; ".join(found)
