"""The key that is sent: where it comes from, what it may be, and that it shows up nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadgen.errors import EXIT_USAGE, LoadgenError
from loadgen.load.waiting import wait_for
from loadgen.scenario import api_key, parse_target
from tests.proof.null_server import Behaviour, null_server
from tests.unit.loadgen.driving import scenario_for

KEY = "hr_alice-alice-alice"


def unexpected(sentence: str) -> None:
    raise AssertionError(sentence)


def test_the_variable_says_which_key_if_any() -> None:
    assert api_key({"HEADRACE_API_KEY": KEY}) == KEY
    assert api_key({"HEADRACE_API_KEY": ""}) is api_key({}) is None


@pytest.mark.parametrize("key", ["two words", "line\r\nHost: other", "umlaut-ä", " ", "x" * 5000])
def test_what_no_header_can_carry_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(LoadgenError) as refused:
        api_key({"HEADRACE_API_KEY": key})
    assert refused.value.exit_code == EXIT_USAGE
    assert str(refused.value) == "HEADRACE_API_KEY must be printable ASCII without spaces."


def test_requests_carry_it_and_nothing_shows_it() -> None:
    scenario = scenario_for(1)
    with_key = replace(scenario, target=parse_target("http://127.0.0.1:1", KEY))
    head = with_key.encode(with_key.payloads[0])
    assert head.count(f"\r\nAuthorization: Bearer {KEY}\r\n".encode()) == 1
    assert head.replace(f"Authorization: Bearer {KEY}\r\n".encode(), b"") == scenario.encode(scenario.payloads[0])
    assert KEY not in repr(with_key)
    assert KEY not in with_key.target.shown


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_not_waited_for(status: int) -> None:
    with (
        null_server(Behaviour(fail_every=1, status=status)) as server,
        pytest.raises(
            LoadgenError, match=rf"with status {status}.*; what HEADRACE_API_KEY holds is sent as the key\.$"
        ),
    ):
        wait_for(parse_target(f"http://127.0.0.1:{server.port}"), ("null",), None, 60.0, unexpected)
    assert server.inferences == 1
