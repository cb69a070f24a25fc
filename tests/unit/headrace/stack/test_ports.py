"""Which ports a stack takes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from headrace.stack import ports
from shared.redis.embedded import free_port
from shared.settings import Settings, SettingsError


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_one_front_end_takes_what_is_set() -> None:
    api, metrics = free_port(), free_port()
    assert ports.choose(Settings(port=api, metrics_port=metrics), 1, 1) == ports.Ports(api, metrics, None)
    assert ports.choose(Settings(port=api, metrics_port=metrics, api_metrics_port=0), 1, 1).api_metrics == 0


def test_the_metrics_of_several_follow_those_of_the_consumers() -> None:
    found = ports.choose(Settings(port=0, metrics_port=0), 3, 2)
    assert found.api_metrics == found.metrics + 3
    assert found.api > 0


def test_or_they_are_where_the_setting_says() -> None:
    first = ports.choose(Settings(port=0, metrics_port=0), 3, 1).metrics
    found = ports.choose(Settings(port=0, metrics_port=0, api_metrics_port=first), 1, 3)
    assert found.api_metrics == first
    assert ports.choose(Settings(port=0, metrics_port=0, api_metrics_port=0), 1, 3).api_metrics


def test_grpc_has_a_port_if_it_is_asked_for() -> None:
    chosen = free_port()
    assert ports.choose(Settings(port=0, metrics_port=0, grpc_port=chosen), 1, 1).grpc == chosen
    found = ports.choose(Settings(port=0, metrics_port=0, grpc_port=0), 1, 2)
    assert found.grpc not in (None, 0, found.api)
    assert ports.choose(Settings(port=0, metrics_port=0), 1, 1).grpc is None


@pytest.mark.parametrize("setting", ["port", "metrics_port", "api_metrics_port", "grpc_port"])
def test_a_port_in_use_is_named(taken: int, setting: str) -> None:
    free = Settings(port=0, metrics_port=0, api_metrics_port=0)
    settings = replace(free, **{setting: taken})  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=rf"HEADRACE_{setting.upper()}: port {taken} on 127\.0\.0\.1 is in use by"):
        ports.choose(settings, 1, 2)


def test_another_stacks_shared_port_is_in_use(taken: int) -> None:
    """A second stack must not answer a part of the first one's clients."""
    with socket.socket() as theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        theirs.bind(("127.0.0.1", 0))
        theirs.listen()
        with pytest.raises(SettingsError, match="is in use by another process"):
            ports.choose(Settings(port=theirs.getsockname()[1], metrics_port=0), 1, 2)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (Settings(port=0, metrics_port=65530), "4 consumers and 3 front ends need the ports 65530 to 65536"),
        (Settings(port=0, metrics_port=0, api_metrics_port=65534), "3 front ends need the ports 65534 to 65536"),
    ],
)
def test_there_are_only_so_many_ports(settings: Settings, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        ports.choose(settings, 4, 3)


def test_where_no_port_can_be_shared_a_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "can_share", lambda: False)
    with pytest.raises(SettingsError, match="HEADRACE_FRONT_ENDS: only Linux deals one port out"):
        ports.choose(Settings(port=0, metrics_port=0), 1, 2)
    assert ports.choose(Settings(port=0, metrics_port=0), 1, 1).api
