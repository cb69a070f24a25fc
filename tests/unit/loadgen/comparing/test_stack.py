"""What the generator reads out of a stack's banner, as `headrace up` itself writes it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.sizing import Place
from headrace.stack import plan
from loadgen.comparing import stack
from loadgen.errors import LoadgenError
from shared.settings import Settings


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_every_consumers_metrics_are_found(count: int) -> None:
    settings = replace(
        Settings(), redis_url="redis://127.0.0.1:6399/0", port=8123, metrics_port=9101, models=("flowers",)
    )
    places = [Place(f"consumer flowers {number}", "flowers", number) for number in range(count)]
    found = stack._addresses(plan.banner(settings, {}, places, 1.0).splitlines(), 7)
    assert (found.url, found.pid) == ("http://127.0.0.1:8123", 7)
    assert list(found.metrics_urls) == [f"http://127.0.0.1:{9101 + number}" for number in range(count)]


@pytest.mark.parametrize("count", [2, 3, 40])
def test_the_metrics_of_several_front_ends_are_found(count: int) -> None:
    settings = replace(
        Settings(),
        redis_url="redis://127.0.0.1:6399/0",
        port=8123,
        metrics_port=9101,
        front_ends=count,
        api_metrics_port=9300,
    )
    places = [Place(f"consumer flowers {number}", "flowers", number) for number in range(40)]
    found = stack._addresses(plan.banner(settings, {}, places, 1.0).splitlines(), 7)
    assert list(found.metrics_urls) == [
        f"http://127.0.0.1:{port}" for port in (*range(9101, 9141), *range(9300, 9300 + count))
    ]


def test_a_banner_without_a_consumer_is_refused() -> None:
    """A stack whose consumers nobody can ask would be judged without them."""
    settings = replace(Settings(), redis_url="redis://127.0.0.1:6399/0", port=8123, models=("flowers",))
    with pytest.raises(LoadgenError, match="no address of a consumer's metrics"):
        stack._addresses(plan.banner(settings, {}, [], 1.0).splitlines(), 7)


def test_a_started_stack_takes_nothing_over_that_would_lie_about_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Some CI systems export GIT_COMMIT; with it base and candidate would both claim that commit."""
    monkeypatch.setenv("GIT_COMMIT", "f" * 40)
    monkeypatch.setenv("HEADRACE_MAX_BATCH", "1")
    found = stack._environment(tmp_path, "echo", {"HEADRACE_WINDOW_MS": "3"}, tmp_path)
    assert not {"GIT_COMMIT", "HEADRACE_MAX_BATCH"} & found.keys()
    assert (found["HEADRACE_WINDOW_MS"], found["PATH"]) == ("3", os.environ["PATH"])
