"""Names, and the keys made of them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import keys
from shared.names import NAME_PATTERN, check_name, is_name

names = st.from_regex(NAME_PATTERN, fullmatch=True)


@given(names)
def test_letters_digits_underscore_and_dash_make_a_name(text: str) -> None:
    assert is_name(text)
    assert check_name(text, "A model") is text


@pytest.mark.parametrize(
    "text", ["", "a b", "a}", "{a", "a:b", "a*", "a?", "a/b", "ä", "a\n", "\0", "x" * 65, "\u0661"]
)
def test_everything_else_is_none(text: str) -> None:
    assert not is_name(text)
    with pytest.raises(ValueError, match=r"^A lane must be 1 to 64 letters"):
        check_name(text, "A lane")


@pytest.mark.parametrize("value", [None, 1, b"a", ["a"]])
def test_what_is_no_string_is_no_name(value: object) -> None:
    assert not is_name(value)


@given(st.text())
def test_the_rule_is_the_pattern(text: str) -> None:
    assert is_name(text) == (re.fullmatch(NAME_PATTERN, text) is not None)


def test_a_long_wrong_name_is_not_repeated_in_full() -> None:
    with pytest.raises(ValueError, match="A model") as caught:
        check_name("}" * 10_000, "A model")
    assert len(str(caught.value)) < 200


def test_the_keys_are_the_documented_ones() -> None:
    assert keys.MODELS == "hr:models"
    assert keys.card("cat") == "hr:{cat}:card"
    assert keys.lanes("cat") == "hr:{cat}:lanes"
    assert keys.work("cat", "default") == "hr:{cat}:q:default"
    assert keys.reply("cat", "default", "id-1") == "hr:{cat}:r:default:id-1"
    assert keys.reply_stream("cat", "default", "fe-1") == "hr:{cat}:rs:default:fe-1"
    assert keys.workers("cat") == "hr:{cat}:workers"
    assert keys.worker("cat", "w1") == "hr:{cat}:w:w1"
    assert (keys.GROUP, keys.MESSAGE_FIELD, keys.DEFAULT_LANE) == ("workers", "m", "default")


@given(names, names, names)
def test_all_keys_of_a_model_share_its_slot_and_none_are_equal(model: str, lane: str, name: str) -> None:
    made = [keys.card(model), keys.lanes(model), keys.workers(model), keys.worker(model, name), keys.work(model, lane),
            keys.reply(model, lane, name), keys.reply_stream(model, lane, name)]  # fmt: skip
    assert len(set(made)) == len(made)
    for key in made:
        # Redis Cluster hashes what stands between the first brace and the next closing one.
        assert key.partition("{")[2].partition("}")[0] == model


@given(names, names, names, names)
def test_no_lane_reaches_into_another(lane: str, other: str, name: str, another: str) -> None:
    same = keys.reply("m", lane, name) == keys.reply("m", other, another)
    assert same == ((lane, name) == (other, another))
