"""JSON of a schema: whatever the model would say, and wherever it is interrupted."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from consumer.generation.engine import Finish, Sampling, Sequence
from consumer.generation.schema import Schemas
from shared.wire.outcomes import MODEL_ERROR
from tests.unit.consumer.generation import engines
from tests.unit.consumer.generation.engines import Kind, run, sequence
from tests.unit.consumer.generation.tokenisers import END, VOCABULARY, byte_tokenizer

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
        "likes": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["name", "age", "likes"],
    "additionalProperties": False,
}
SCHEMAS = Schemas(byte_tokenizer().to_str, VOCABULARY, END)


@pytest.fixture(params=["null", "slots"])
def kind(request: pytest.FixtureRequest) -> Kind:
    return {"null": engines.null, "slots": engines.slots}[request.param]()


def asked(kind: Kind, schema: Any, number: int = 0, **more: Any) -> Sequence:
    drawn = Sampling(temperature=0.9, seed=number) if number else Sampling()
    constraint = SCHEMAS.constraint(schema)
    return sequence(kind, f"s{number}", "tell me", 80, sampling=drawn, constraint=constraint, **more)


def test_the_text_is_json_of_the_schema(kind: Kind) -> None:
    """Random weights say anything; so the constraint alone makes it JSON."""
    for ended in run(kind.make(3, 64), [asked(kind, PERSON, number) for number in range(5)]).values():
        if ended.finish is Finish.STOP:
            jsonschema.validate(json.loads(ended.text), PERSON)
        else:  # cut off by max_tokens
            assert ended.finish is Finish.LENGTH
    whole = run(kind.make(1, 64), [asked(kind, {"enum": ["yes", "no"]}, 7)])["s7"]
    assert json.loads(whole.text) in ("yes", "no")
    assert whole.finish is Finish.STOP


def test_others_are_not_constrained(kind: Kind) -> None:
    free = sequence(kind, "free", "abcde", 12, ignores_end=True)
    together = run(kind.make(2, 64), [asked(kind, PERSON), free])
    assert together["free"].tokens == run(kind.make(1, 64), [free])["free"].tokens


def test_going_on_within_json(kind: Kind) -> None:
    undisturbed = run(kind.make(1, 64), [asked(kind, PERSON, 3)])["s3"]
    for done in (1, len(undisturbed.tokens) // 2, len(undisturbed.tokens)):
        one = replace(asked(kind, PERSON, 3), generated=tuple(undisturbed.tokens[:done]))
        assert run(kind.make(1, 64), [one])["s3"].tokens == undisturbed.tokens[done:]


def test_a_schema_that_nothing_fulfils_fails_alone(kind: Kind) -> None:
    class Nothing:
        def allowed(self) -> bytes:
            return bytes(33)

        def advance(self, token: int) -> None:
            raise AssertionError("nothing was allowed")

    free = sequence(kind, "free", "abcde", 6, ignores_end=True)
    stuck = replace(sequence(kind, "stuck"), constraint=Nothing())
    ended = run(kind.make(2, 64), [stuck, free])
    assert ended["stuck"].finish is Finish.ERROR
    assert ended["stuck"].error is not None
    assert ended["stuck"].error.outcome is MODEL_ERROR
    assert len(ended["free"].tokens) == 6
