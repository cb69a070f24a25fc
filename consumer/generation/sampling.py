"""Choosing a token from logits, as a function of the sequence alone. Pure.

The draw is the inverse of the distribution function at a number that depends on (seed, position) and nothing else. So
a sequence gets the same tokens whatever runs beside it, and when it goes on elsewhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.wire.outcomes import MODEL_ERROR, RequestError

from .engine import Sampling

Logits = NDArray[np.float32]

_HEAD = 1024
"""Likeliest tokens that are sorted first: they nearly always have all of ``top_p``, and sorting all takes ten times."""


def uniform(seed: int, position: int) -> float:
    """Return a number from 0 to below 1: Philox4x64 with key ``seed`` and counter ``position``.

    Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011.
    """
    return float(np.random.Generator(np.random.Philox(key=seed, counter=position)).random())


def choose(logits: Logits, sampling: Sampling, position: int) -> int:
    """Return the token for ``position`` of a sequence.

    Args:
        logits: shape (vocabulary,); minus infinity forbids a token, and at least one is finite.
        position: tokens before it, the prompt's included.
    """
    if sampling.temperature <= 0:
        return int(logits.argmax())
    scaled = (logits.astype(np.float64) - float(logits.max())) / sampling.temperature
    weights = np.exp(scaled)
    tokens = _kept(weights, sampling.top_k, sampling.top_p)
    kept = weights if tokens is None else weights[tokens]
    sums = kept.cumsum()
    at = int(sums.searchsorted(uniform(sampling.seed, position) * sums[-1], side="right"))
    at = min(at, int(kept.nonzero()[0][-1]))  # rounding must not lead to a forbidden token
    return at if tokens is None else int(tokens[at])


def _kept(weights: NDArray[np.float64], top_k: int, top_p: float) -> NDArray[np.intp] | None:
    """Return the tokens that may be drawn, likeliest first and equal ones by number; None for all, by number."""
    if 0 < top_k < len(weights):
        tokens = _likeliest(weights, top_k)
        if top_p >= 1:
            return tokens
        return _nucleus(tokens, weights, top_p * float(weights[tokens].sum()))
    if top_p >= 1:
        return None
    wanted = top_p * float(weights.sum())
    if len(weights) > _HEAD:
        head = _likeliest(weights, _HEAD)
        nucleus = _nucleus(head, weights, wanted)
        if len(nucleus) < _HEAD:
            return nucleus
    return _nucleus(_likeliest(weights, len(weights)), weights, wanted)


def _likeliest(weights: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Return the ``count`` largest, in order; of equal ones those with the lowest numbers."""
    if count < len(weights):
        least = weights[np.argpartition(-weights, count - 1)[count - 1]]
        above = (weights > least).nonzero()[0]
        equal = (weights == least).nonzero()[0][: count - len(above)]
        candidates = np.concatenate((above, equal))
    else:
        candidates = np.arange(len(weights))
    return candidates[np.lexsort((candidates, -weights[candidates]))]


def _nucleus(tokens: NDArray[np.intp], weights: NDArray[np.float64], wanted: float) -> NDArray[np.intp]:
    """Return the first of ``tokens`` that together weigh ``wanted``; at least one."""
    sums = weights[tokens].cumsum()
    return tokens[: int(sums.searchsorted(wanted)) + 1]


def logprobs(logits: Logits, token: int, most: int) -> tuple[float, list[tuple[int, float]]]:
    """Return the logarithm of ``token``'s probability, and the ``most`` likeliest tokens with theirs, best first."""
    values = logits.astype(np.float64)
    top = float(values.max())
    log_sum = top + float(np.log(np.exp(values - top).sum()))
    best = _likeliest(values, most) if most else ()
    return float(values[token]) - log_sum, [(int(one), float(values[one]) - log_sum) for one in best]


def allow(logits: Logits, mask: bytes) -> Logits:
    """Return ``logits`` with minus infinity wherever ``mask`` has no bit; see ``Constraint.allowed``.

    Raises:
        RequestError: it has no bit at all.
    """
    bits = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little")[: len(logits)]
    forbidden = np.ones(len(logits), dtype=bool)
    forbidden[: len(bits)] = bits == 0
    if forbidden.all():
        raise RequestError(MODEL_ERROR, "No token is allowed here, so the schema cannot be fulfilled.")
    return np.where(forbidden, np.float32(-np.inf), logits)
