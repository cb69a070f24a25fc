"""Lengths and texts from a seed. Pure."""

from __future__ import annotations

import math
import random
from typing import Final

_COMMON: Final = (
    "the a of and to in is it you that he was for on are with as they be at one have this from or had by but some "
    "what there we can out other were all your when up use how each she which do their time if will way about many "
    "then them would write like so these her long make thing see him two has look more day could go come did my sound "
    "no most number who over know water than call first people may down side been now find any new work part take get "
    "place made live where after back little only round man year came show every good me give our under name very "
    "through just form much great think say help low line before turn cause same mean move right boy old too does "
    "tell sentence set three want air well also play small end put home read hand port large spell add even land here "
    "must big high such follow act why ask men change went light kind off need house picture try us again animal "
    "point"
)
_WORDS: Final = tuple(_COMMON.split())


def lognormal(rng: random.Random, median: float, sigma: float, most: int) -> int:
    """Return a whole number from 1 to `most` whose logarithm is normal around that of `median`."""
    return min(most, max(1, round(math.exp(rng.gauss(math.log(median), sigma)))))


def text_of(rng: random.Random, words: int) -> str:
    """Return so many common English words, which most tokenizers make one token each of."""
    return " ".join(rng.choices(_WORDS, k=words))
