"""docs/protocol.md names everything the code sends and knows; a new member or code must be described there."""

from __future__ import annotations

import re
from pathlib import Path

import msgpack
import pytest

from consumer.pipeline.generating.resumption import MOST_ATTEMPTS, PROVEN_TOKENS
from shared import keys, limits
from shared.redis import functions, library
from shared.settings import Settings
from shared.state.cards import ITEM_BYTES, Card
from shared.state.desired_state import Progress, WorkerState
from shared.wire import messages
from shared.wire.bodies import BODY_GONE
from shared.wire.frames import Frame
from shared.wire.generated import Choice, Generated, Usage
from shared.wire.generation import CONTENT_TYPE, Generation
from shared.wire.messages import ModelTag, Reply, Timing, encode_reply
from shared.wire.outcomes import (
    CANCELLED,
    CRASHED,
    EXPIRED,
    INTERNAL,
    INVALID_INPUT,
    LANE_FULL,
    MALFORMED,
    MODEL_ERROR,
    UNSUPPORTED_MEDIA_TYPE,
    Outcome,
)

PAGE = Path(__file__).parents[3].joinpath("docs", "protocol.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None, title
    return found[1]


@pytest.mark.parametrize("member", sorted(messages._REQUEST_MEMBERS))
def test_every_member_of_a_request_is_described(member: str) -> None:
    assert f"| `{member}` |" in section("A request")


def test_every_member_of_a_reply_is_described() -> None:
    message = msgpack.unpackb(encode_reply(Reply("a", ModelTag("m", "1", "fp32"), Timing(), warnings=["w"])))
    for member in (*message, *message["t"], *message["model"], "predictions", "outputs", "error"):
        assert f"`{member}`" in section("A reply"), member


def test_every_member_of_a_generation_and_of_a_frame_is_described() -> None:
    page = section("Generations")
    rows = "".join(re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", rows)) == set(Generation.__struct_fields__)
    for member in Frame.__struct_fields__:
        assert f"`{member}`" in page, member
    assert CONTENT_TYPE in page
    assert f"1 to {limits.LONGEST_MS:,}" in page
    assert (PROVEN_TOKENS, MOST_ATTEMPTS) == (4, 8)
    assert "four tokens" in page
    assert "eight consumers" in page


def test_every_member_of_what_was_generated_is_described() -> None:
    row = next(line for line in section("A reply").splitlines() if line.startswith("| `generated` |"))
    for kind in (Generated, Choice, Usage):
        for member in kind.__struct_fields__:
            assert f"`{member}`" in row, member


def test_every_datatype_is_listed() -> None:
    assert " ".join([*ITEM_BYTES, "BYTES"]) in re.sub(r"\s+", " ", section("A request"))


def test_every_field_of_a_card_is_listed() -> None:
    for field in Card.__struct_fields__:
        assert f"`{field}`" in section("Keys"), field


def test_every_key_is_described() -> None:
    made = [keys.FUNCTIONS, keys.MODELS, keys.card("M"), keys.lanes("M"), keys.workers("M"), keys.worker("M", "WORKER")]
    made += [
        keys.stored("M", "LANE"),
        keys.lane_bytes("M"),
        keys.desired_state("M"),
        keys.turn("M"),
        keys.flight("M", "LANE", "ID"),
        keys.terminations("M", "LANE"),
        keys.webhooks("M", "LANE"),
        keys.webhooks_due("M", "LANE", "HOST"),
        keys.webhook_events("M", "LANE", "HOST", "SUBJECT"),
        keys.webhooks_pending("M", "LANE"),
        keys.dead_webhooks("M", "LANE"),
    ]
    made += [keys.record("M", "LANE", "ID")]
    made += [keys.bulk("M"), keys.bulk_list("M", "LANE")]
    made += [keys.bulk_record("M", "LANE", "ID"), keys.bulk_parts("M", "LANE", "ID")]
    made += [keys.work("M", "LANE"), keys.reply("M", "LANE", "ID"), keys.reply_stream("M", "LANE", "INSTANCE")]
    for key in made:
        assert f"| `{key}` |" in section("Keys"), key


def test_everything_a_worker_says_of_itself_is_described() -> None:
    for field in (*WorkerState.__struct_fields__, *Progress):
        assert f"`{field}`" in section("Keys"), field


def test_every_function_is_described() -> None:
    registered = re.findall(r"'(hr\d+_\w+)'", library.source())
    named = [value for value in vars(functions).values() if isinstance(value, str) and value.startswith("hr1_")]
    assert sorted(registered) == sorted(named)
    for name in registered:
        assert f"**`{name}`**" in section("The atomic functions")


@pytest.mark.parametrize(
    "outcome",
    [
        MALFORMED,
        UNSUPPORTED_MEDIA_TYPE,
        INVALID_INPUT,
        MODEL_ERROR,
        CRASHED,
        LANE_FULL,
        INTERNAL,
        EXPIRED,
        CANCELLED,
        BODY_GONE,
    ],
    ids=lambda outcome: outcome.code,
)
def test_what_a_consumer_answers_is_described_and_stored_as_described(outcome: Outcome) -> None:
    row = re.search(rf"^\| `{outcome.code}` \|.*$", section("A reply"), re.MULTILINE)
    assert row is not None
    assert ("| yes |" in row[0]) == outcome.lasting


def test_the_numbers_are_those_of_the_code() -> None:
    assert section("A request").count(f"1 to {limits.LONGEST_MS:,}") == 2
    assert f"1 to {messages.MAX_INPUTS} tensors" in section("A request")
    assert f"at most {messages.MAX_DIMENSIONS} sizes" in section("A request")
    assert f"up to {messages.MAX_PARAMS} options" in section("A request")
    assert f"about {limits.REPLY_STREAM_CAP:,} entries" in section("Keys")
    assert f"({limits.FRAME_STREAM_CAP:,} while frames come)" in section("Keys")
    assert f"at most {limits.DEAD_LETTERS_CAP:,} entries" in section("Keys")
    assert f"{limits.DEAD_LETTERS_BYTES >> 20} MiB of messages" in section("Keys")
    assert f"with {limits.HOOKS_CAP:,} of them" in section("Keys")
    assert f"at most {limits.HOOKS_DEAD_CAP:,} entries" in section("Keys")
    assert f"{limits.HOOKS_MS // 86_400_000} days after the last event" in section("Keys")
    assert f"{limits.HOOKS_DEAD_MS // 86_400_000} days after the last |" in section("Keys")
    assert f"under {limits.HINT_LIMIT_BYTES // 1024} KiB" in PAGE
    assert f"{limits.LUA_LIMIT_BYTES // 1024} KiB and more" in section("The atomic functions")
    assert f":{Settings().redis_port}`" in PAGE
    assert Settings().lease_ms == 5_000
    assert "5 seconds as shipped" in section("Keys")
