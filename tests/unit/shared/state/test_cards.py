"""Cards: what a consumer publishes is what a front end reads."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.state.cards import ITEM_BYTES, BatchSettings, Card, TensorSpec, Trial, Tuning, from_hash, to_hash

specs = st.builds(
    TensorSpec,
    st.text(max_size=9),
    st.sampled_from(sorted(ITEM_BYTES)),
    st.lists(st.integers(-1, 9), max_size=4).map(tuple),
)
sizes = st.integers(1, 99)
texts = st.lists(st.text(max_size=9), max_size=3).map(tuple)
trials = st.builds(
    Trial,
    st.text(max_size=9),
    st.text(max_size=9),
    st.text(max_size=9),
    st.none() | st.floats(0, 1e9),
    st.none() | sizes,
)
tunings = st.builds(
    Tuning, st.text(max_size=9), st.text(max_size=9), st.lists(trials, max_size=2).map(tuple), st.text(max_size=9)
)
cards = st.builds(
    Card,
    name=st.text(max_size=9),
    version=st.text(max_size=9),
    family=st.text(max_size=9),
    inputs=st.lists(specs, max_size=2).map(tuple),
    outputs=st.lists(specs, max_size=2).map(tuple),
    content_types=texts,
    precision=st.text(max_size=9),
    device=st.text(max_size=9),
    batch=st.builds(BatchSettings, st.integers(1, 99), st.floats(0, 99), st.text(max_size=9)),
    labels=st.none() | texts,
    warnings=texts,
    runtime=st.text(max_size=9),
    tuning=st.none() | tunings,
)


def as_read(card: Card) -> dict[bytes, bytes]:
    return {name.encode(): value for name, value in to_hash(card).items()}


@given(cards)
def test_a_card_survives_the_hash(card: Card) -> None:
    assert from_hash(as_read(card)) == card


@pytest.mark.parametrize(
    ("shape", "datatype", "expected"),
    [
        ((224, 224, 3), "UINT8", 150_528),
        ((), "FP64", 8),
        ((0, 5), "FP32", 0),
        ((-1,), "UINT8", None),
        ((2, -1), "UINT8", None),
        ((2,), "BYTES", None),
        ((3,), "FP16", 6),
    ],
)
def test_bytes_of_a_row(shape: tuple[int, ...], datatype: str, expected: int | None) -> None:
    assert TensorSpec("x", datatype, shape).row_bytes() == expected


def example() -> Card:
    spec = (TensorSpec("input", "UINT8", (-1,)),)
    batch = BatchSettings(8, 5.0, "window")
    return Card("m", "1", "echo", spec, spec, ("application/octet-stream",), "fp32", "cpu", batch)


def test_every_field_of_the_hash_is_json() -> None:
    fields = {name: json.loads(value) for name, value in to_hash(example()).items()}
    assert fields["inputs"] == [{"name": "input", "datatype": "UINT8", "shape": [-1]}]
    assert fields["batch"] == {"max_batch": 8, "window_ms": 5.0, "policy": "window"}


def test_fields_of_a_newer_version_are_ignored() -> None:
    inputs = b'[{"name": "input", "datatype": "UINT8", "shape": [-1], "unit": "pixels"}]'
    assert from_hash({**as_read(example()), b"colour": b'"blue"', b"inputs": inputs}) == example()


def test_what_older_and_newer_consumers_say_of_their_batches_is_read() -> None:
    plain = {"max_batch": 8, "window_ms": 5.0, "policy": "window"}
    newer = {**plain, "unit": "token", "max_units": 2048, "per_unit_ms": 0.002}
    for said in (plain, newer, {**newer, "joules": 3}):
        batch = from_hash({**as_read(example()), b"batch": json.dumps(said).encode()}).batch
        found = (batch.unit, batch.max_units, batch.per_unit_ms)
        assert found == ((None, None, None) if said is plain else ("token", 2048, 0.002))


def test_a_card_of_before_runtimes_were_chosen_is_read_without_one() -> None:
    fields = {**as_read(example()), b"recipe": b'["channels_last"]'}
    del fields[b"runtime"], fields[b"tuning"]
    assert from_hash(fields) == example()


def test_what_a_newer_version_says_of_a_tuning_is_read_as_far_as_it_is_known() -> None:
    trial = {"runtime": "abacus", "precision": "fp2", "outcome": "chosen.", "joules": 3}
    newer = {"state": "dreaming", "trials": [trial], "until": {"s": 5}}
    card = from_hash({**as_read(example()), b"tuning": json.dumps(newer).encode()})
    assert card.tuning == Tuning("dreaming", trials=(Trial("abacus", "fp2", "chosen."),))


def test_a_card_is_decoded_into_what_a_card_is() -> None:
    for name, value in (
        (b"labels", b'"' + b"a" * (5 << 20) + b'"'),
        (b"inputs", b"[" + b"{}," * 1000 + b"{}]"),
        (b"version", b"[]"),
    ):
        with pytest.raises((ValueError, msgspec.DecodeError)):
            from_hash({**as_read(example()), name: value})


def test_labels_and_warnings_may_be_missing() -> None:
    fields = as_read(example())
    del fields[b"labels"], fields[b"warnings"]
    assert from_hash(fields) == example()


@pytest.mark.parametrize("damage", [{b"name": b"not json"}, {b"batch": b"3"}, {b"inputs": b'[{"name":"x"}]'},
                                    {b"labels": b"5"}, {b"version": b"\xff"}])  # fmt: skip
def test_a_damaged_card_is_a_value_error(damage: dict[bytes, bytes]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the reader only needs to know that it cannot be read
        from_hash({**as_read(example()), **damage})


def test_an_incomplete_card_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="name"):
        from_hash({})
