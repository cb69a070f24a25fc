"""How batches of texts are put together, compared in one process: ``python -m tests.perf.programs.text_batches``.

The same texts of log-normal lengths run through the same network: one by one, in batches of 32 in order of arrival and
padded, chosen by length and padded, and packed without padding. Rounds are interleaved, so that whatever else the
machine does meets all of them; the median of each counts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from consumer.batching.by_length import parts_by_length
from consumer.batching.parts import parts
from consumer.models.text.encoder import Encoder
from consumer.models.text.environment import prepare_for_transformers
from consumer.models.text.folder import open_folder
from consumer.models.text.packed import NAME
from consumer.models.text.rows import Row
from consumer.models.text.samples import sample_lengths
from consumer.runtimes.pytorch import packed_linear
from shared.model_config import load

Plan = Callable[[Sequence[int]], Iterator[list[int]]]


def by_number(count: int) -> Plan:
    """Cut into batches of so many, in order."""
    return lambda lengths: (
        list(range(begin, min(begin + count, len(lengths)))) for begin in range(0, len(lengths), count)
    )


def in_order(tokens: int) -> Plan:
    """Cut into batches of so many tokens, in order."""
    return lambda lengths: (list(part) for part in parts(lengths, tokens))


def in_windows(window: int, tokens: int) -> Plan:
    """Cut into batches of so many tokens with their padding, by length among ``window`` at a time."""

    def plan(lengths: Sequence[int]) -> Iterator[list[int]]:
        for begin in range(0, len(lengths), window):
            for part in parts_by_length(lengths[begin : begin + window], tokens):
                yield [begin + place for place in part]

    return plan


PLANS: dict[str, tuple[bool, Plan]] = {
    "one by one": (False, by_number(1)),
    "FIFO, 32 rows, padded": (False, by_number(32)),
    "by length among 128, 1,024 tokens, padded": (False, in_windows(128, 1024)),
    "packed, 512 tokens": (True, in_order(512)),
    "packed, 1,024 tokens": (True, in_order(1024)),
    "packed, 2,048 tokens": (True, in_order(2048)),
}


def main() -> None:
    """Measure and print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--texts", type=int, default=128)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--precision", default="fp32")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--device", default="cpu")
    options.add_argument("--plain", action="store_true", help="linear layers as torch has them, for all")
    chosen = options.parse_args()
    prepare_for_transformers()
    torch.set_num_threads(chosen.threads)
    if chosen.plain:
        packed_linear.is_possible = lambda: False
    folder = open_folder(load(Path("models.toml"))["minilm"])
    encoder = Encoder(folder, chosen.device, chosen.precision, chosen.threads)
    random = np.random.default_rng(3)
    lengths = [length for _, length in sample_lengths(chosen.texts, encoder.context)]
    texts = [Row(random.integers(1000, folder.vocabulary, length)) for length in lengths]
    took_s: dict[str, list[float]] = {name: [] for name in PLANS}
    longest_s = dict.fromkeys(PLANS, 0.0)
    found: dict[str, np.ndarray] = {}
    for _ in range(chosen.rounds):
        for name, (packs, plan) in PLANS.items():
            encoder.packs = packs
            encoder._network.set_attn_implementation(NAME if packs else encoder._attention)
            answers = np.zeros((len(texts), encoder.width), np.float32)
            begun_s = time.perf_counter()
            for part in plan(lengths):
                part_begun_s = time.perf_counter()
                answers[part] = encoder.run([texts[place] for place in part])
                longest_s[name] = max(longest_s[name], time.perf_counter() - part_begun_s)
            took_s[name].append(time.perf_counter() - begun_s)
            found[name] = answers
    print(f"{len(texts)} texts, {sum(lengths)} tokens, longest {max(lengths)}")
    print(f"{chosen.precision}, {chosen.threads} threads, {'plain' if chosen.plain else 'packed'} linear layers")
    exact, alone_s = found["one by one"], statistics.median(took_s["one by one"])
    fifo_s = statistics.median(took_s["FIFO, 32 rows, padded"])
    print("| batches | texts/s | over one by one | over FIFO 32 | longest batch ms | largest difference |")
    print("|---|---|---|---|---|---|")
    for name, times_s in took_s.items():
        median_s = statistics.median(times_s)
        print(
            f"| {name} | {len(texts) / median_s:.1f} | {alone_s / median_s:.2f} | {fifo_s / median_s:.2f} | "
            f"{longest_s[name] * 1000:.0f} | {np.abs(found[name] - exact).max():.1e} |"
        )


if __name__ == "__main__":
    main()
