"""How many consumers, and where each runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer import batch_threads
from headrace.sizing import MOST_FRONT_ENDS, counts, front_ends, place_of, places
from shared.model_config import ModelConfig
from shared.process.machine import GIB, Machine
from shared.process.threads import threads_each
from shared.settings import Settings

MODELS = {
    "net": ModelConfig("timm"),
    "mine": ModelConfig("python"),
    "echo": ModelConfig("echo"),
    "chat": ModelConfig("generate"),
}
PLENTY = 1 << 40


def machine(cores: int, *, gpus: int = 0, memory: int = PLENTY, quota: float | None = None) -> Machine:
    return Machine(tuple(range(cores)), quota, tuple(map(str, range(gpus))), memory, True)


def models(*names: str, **consumers: int) -> dict[str, ModelConfig]:
    return {name: ModelConfig(MODELS[name].family, consumers=consumers.get(name, 0)) for name in names}


def test_one_process_for_each_core_and_one_that_computes_nothing() -> None:
    assert counts(Settings(), models("net", "echo"), machine(6)) == {"net": 6, "echo": 1}


def test_one_process_for_each_gpu() -> None:
    assert counts(Settings(), models("net", "echo"), machine(16, gpus=4)) == {"net": 4, "echo": 1}
    assert counts(Settings(device="cuda"), models("net"), machine(16)) == {"net": 1}  # which will say what is missing
    assert counts(Settings(device="cpu"), models("net"), machine(16, gpus=4)) == {"net": 16}


def test_the_environment_wins_over_the_table_and_the_table_over_the_machine() -> None:
    chosen = models("net", "echo", net=3, echo=2)
    assert counts(Settings(), chosen, machine(8)) == {"net": 3, "echo": 2}
    assert counts(Settings(consumers=5), chosen, machine(8)) == {"net": 5, "echo": 5}


def test_a_machine_with_little_memory_gets_fewer() -> None:
    assert counts(Settings(), models("net"), machine(16, memory=8 * GIB)) == {"net": 5}
    assert counts(Settings(), models("net", "mine"), machine(16, memory=9 * GIB)) == {"net": 3, "mine": 3}
    assert counts(Settings(), models("net"), machine(16, memory=1)) == {"net": 1}
    # Who says a number gets it.
    assert counts(Settings(consumers=16), models("net"), machine(16, memory=1)) == {"net": 16}


def test_each_of_as_many_as_cores_has_one_thread_on_a_core_of_its_own() -> None:
    found = places(Settings(), models("net", "echo"), machine(2))
    assert [(place.name, place.index, place.threads, place.cores) for place in found] == [
        ("consumer net 1", 0, 1, (0,)),
        ("consumer net 2", 1, 1, (1,)),
        ("consumer echo", 2, None, ()),
    ]


def test_fewer_consumers_share_the_cores_but_one() -> None:
    found = places(Settings(consumers=2), models("net"), machine(8))
    assert [(place.threads, place.cores) for place in found] == [(3, (0, 1, 2)), (3, (3, 4, 5))]
    assert threads_each(1, 1) == 1
    assert threads_each(8, 1) == 7


def test_a_model_is_tuned_for_the_place_that_it_gets() -> None:
    table = models("net", "mine", "echo", net=1, mine=2)
    both = Settings(models=("net", "mine"))
    [place, *_] = places(both, {name: table[name] for name in both.models}, machine(8))
    assert place_of(both, table, "net", machine(8)) == place
    assert place.threads == 2
    # One that is not among those that are served would be alone.
    assert place_of(Settings(models=("mine",)), table, "net", machine(8)).threads == 7
    assert place_of(Settings(models=("gone", "net")), table, "net", machine(8)).threads == 7
    assert place_of(Settings(models=("net",)), table, "net", machine(8, gpus=2)).gpu == "0"


def test_a_consumer_that_is_started_by_hand_has_as_many_threads_as_one_that_is_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for cores in (1, 2, 8):
        monkeypatch.setattr(batch_threads, "usable_cores", lambda cores=cores: cores)
        alone = place_of(Settings(consumers=1), models("net"), "net", machine(cores))
        assert batch_threads.threads_of(Settings()) == alone.threads
    assert batch_threads.threads_of(Settings(torch_threads=3)) == 3


def test_cores_that_several_models_would_have_to_share_are_nobodys_own() -> None:
    found = places(Settings(), models("net", "mine"), machine(2))
    assert [(place.name, place.threads, place.cores) for place in found] == [
        ("consumer net 1", 1, ()),
        ("consumer net 2", 1, ()),
        ("consumer mine 1", 1, ()),
        ("consumer mine 2", 1, ()),
    ]


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        (Settings(pin="off"), machine(2)),
        (Settings(), machine(4, quota=2.0)),
        (Settings(), Machine((0, 1), free_memory_bytes=PLENTY)),
        (Settings(torch_threads=2), machine(2)),
    ],
)
def test_nothing_is_pinned_where_it_is_not_wanted_or_does_not_fit(settings: Settings, where: Machine) -> None:
    found = places(settings, models("net"), where)
    assert len(found) == where.usable_cores
    assert all(place.cores == () for place in found)


def test_the_gpus_are_dealt_out_in_turn() -> None:
    found = places(Settings(consumers=3), models("net", "echo"), machine(16, gpus=2))
    assert [place.gpu for place in found if place.model == "net"] == ["0", "1", "0"]
    assert {place.threads for place in found if place.model == "net"} == {None}  # its own choice, should CUDA fail
    assert {(place.gpu, place.threads) for place in found if place.model == "echo"} == {(None, None)}


def test_a_language_model_has_one_process_whatever_else_is_served() -> None:
    """It reads all its weights for each step: a second process would read them again, and hold them again."""
    assert counts(Settings(), models("chat"), machine(8)) == {"chat": 1}
    found = places(Settings(), models("net", "chat", "echo"), machine(8))
    assert [place.threads for place in found if place.model == "net"] == [1] * 8
    assert [(place.threads, place.cores) for place in found if place.model == "chat"] == [(7, ())]
    # Alone it is tied to the cores that it gets, and more processes share them.
    [alone] = places(Settings(), models("chat"), machine(8))
    assert (alone.threads, alone.cores) == (7, tuple(range(7)))
    pair = places(Settings(), models("chat", chat=2), machine(8))
    assert [(place.threads, place.cores) for place in pair] == [(3, (0, 1, 2)), (3, (3, 4, 5))]
    # Its memory is not given to others, and each GPU has weights of its own.
    assert counts(Settings(), models("net", "chat"), machine(16, memory=9 * GIB)) == {"net": 5, "chat": 1}
    assert counts(Settings(), models("net", "chat"), machine(16, gpus=2)) == {"net": 2, "chat": 2}


@given(
    cores=st.integers(1, 64),
    gpus=st.integers(0, 4),
    memory=st.integers(0, 100) | st.none(),
    consumers=st.integers(0, 70),
    threads=st.integers(0, 8),
    names=st.lists(st.sampled_from(sorted(MODELS)), min_size=1, max_size=3, unique=True),
)
def test_whatever_is_asked_for(
    cores: int, gpus: int, memory: int | None, consumers: int, threads: int, names: list[str]
) -> None:
    bytes_free = None if memory is None else memory * GIB
    where = Machine(tuple(range(10, 10 + cores)), None, tuple(map(str, range(gpus))), bytes_free, True)
    settings = Settings(consumers=consumers, torch_threads=threads)
    found = places(settings, models(*names), where)
    assert [place.index for place in found] == list(range(len(found)))
    assert {place.model for place in found} == set(names)
    assert len({place.name for place in found}) == len(found)
    pinned = [core for place in found for core in place.cores]
    assert len(pinned) == len(set(pinned))
    assert set(pinned) <= set(where.cores)
    assert all(len(place.cores) in (0, place.threads) for place in found)
    assert all((place.gpu is not None) == (gpus > 0 and place.model != "echo") for place in found)


def several(cores: int, *names: str, gpus: int = 0, **settings: int) -> int:
    """How many front ends a machine gets."""
    chosen, own = models(*names), Settings(**settings)  # type: ignore[arg-type]
    where = replace(machine(cores, gpus=gpus), can_share_ports=True)
    return front_ends(own, chosen, where, places(own, chosen, where))


def test_two_cores_have_one_front_end_whatever_they_serve() -> None:
    assert [several(2, *names) for names in (("net",), ("echo",), ("net", "echo"), ("net", "mine"))] == [1] * 4
    assert several(1, "net") == several(1, "echo") == 1


def test_consumers_on_cores_keep_one_front_end_busy_by_the_dozen() -> None:
    assert [several(cores, "net") for cores in (4, 16, 17, 32, 33, 256)] == [1, 1, 2, 2, 3, MOST_FRONT_ENDS]


def test_gpus_and_models_that_compute_nothing_take_what_several_carry() -> None:
    assert [several(16, "net", gpus=gpus) for gpus in (1, 2, 4, 6)] == [2, 4, 4, 3]
    assert [several(cores, "net", gpus=1) for cores in (2, 4, 5, 8)] == [1, 1, 2, 2]
    assert [several(cores, "echo") for cores in (3, 4, 16)] == [1, 2, 2]
    assert several(16, "echo", consumers=4) == MOST_FRONT_ENDS


def test_who_says_a_number_of_front_ends_gets_it_and_one_is_all_where_no_port_is_shared() -> None:
    assert several(2, "net", front_ends=7) == 7
    chosen, where = models("echo"), machine(16)
    assert front_ends(Settings(), chosen, where, places(Settings(), chosen, where)) == 1


@given(cores=st.integers(1, 300), gpus=st.integers(0, 8), names=st.sets(st.sampled_from(sorted(MODELS)), min_size=1))
def test_there_is_always_a_front_end_and_never_a_crowd(cores: int, gpus: int, names: set[str]) -> None:
    assert 1 <= several(cores, *sorted(names), gpus=gpus) <= min(MOST_FRONT_ENDS, cores)
