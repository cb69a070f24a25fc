"""What Kubernetes sets for a Service of our name is no setting; whatever else we do not know is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import service_links
from shared.settings import _KNOWN, Settings, SettingsError

PROTOCOLS = ("TCP", "UDP", "SCTP")
WRONG = ("", "x", "localhost", "8000x", "http://10.0.0.1:80", "tcp://", "tcp://host:80", "99999")
addresses = st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str))
ports = st.integers(1, 65535)
port_names = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
services = st.one_of(
    st.just("headrace"),
    st.sampled_from(["headrace-ui", "headrace-redis", "headrace-metrics", "headrace-api-metrics", "headrace-port"]),
    st.from_regex(r"headrace-[a-z0-9]([a-z0-9-]{0,12}[a-z0-9])?", fullmatch=True),
)


def variables(service: str, address: str, listed: list[tuple[int, str, str | None]]) -> dict[str, str]:
    """What the kubelet sets for a Service: its first port without a number, then each of its ports."""
    name = service.upper().replace("-", "_")
    host = f"[{address}]" if ":" in address else address
    number, protocol, _ = listed[0]
    made = {
        f"{name}_SERVICE_HOST": address,
        f"{name}_SERVICE_PORT": str(number),
        f"{name}_PORT": f"{protocol.lower()}://{host}:{number}",
    }
    for number, protocol, port_name in listed:
        one = f"{name}_PORT_{number}_{protocol}"
        made |= {
            one: f"{protocol.lower()}://{host}:{number}",
            f"{one}_PROTO": protocol.lower(),
            f"{one}_PORT": str(number),
            f"{one}_ADDR": address,
        }
        if port_name is not None:
            made[f"{name}_SERVICE_PORT_{port_name.upper().replace('-', '_')}"] = str(number)
    return made


lists = st.lists(st.tuples(ports, st.sampled_from(PROTOCOLS), st.none() | port_names), min_size=1, max_size=3)
links = st.builds(variables, services, addresses, lists)


@given(links)
def test_the_variables_of_any_service_are_no_settings(environment: dict[str, str]) -> None:
    assert Settings.from_env(environment) == Settings()
    assert service_links.without(environment) == {}


@given(links, st.integers(0, 65535))
def test_settings_beside_them_count(environment: dict[str, str], port: int) -> None:
    settings = Settings.from_env({**environment, "HEADRACE_PORT": str(port), "HEADRACE_LOG_LEVEL": "debug"})
    assert (settings.port, settings.log_level) == (port, "debug")


@given(
    links, st.sampled_from(["", "x", "localhost", "8000x", "http://10.0.0.1:80", "tcp://", "tcp://host:80", "99999"])
)
def test_the_name_alone_is_not_enough(environment: dict[str, str], value: str) -> None:
    for name in environment:
        with pytest.raises(SettingsError) as caught:
            Settings.from_env({name: value})
        assert name in str(caught.value)


@given(
    st.from_regex(r"HEADRACE_[A-Z_]{1,12}", fullmatch=True), st.sampled_from(["8000", "10.0.0.1", "tcp://10.0.0.1:80"])
)
def test_the_value_alone_is_not_enough(name: str, value: str) -> None:
    if name in _KNOWN or any(part in name for part in ("_PORT", "_SERVICE_HOST")):
        return
    with pytest.raises(SettingsError, match=f"{name} is not a setting"):
        Settings.from_env({name: value})


@pytest.mark.parametrize("name", ["HEADRACE_PROT", "HEADRACE_PORTS", "HEADRACE_SERVICE_HOSTS", "HEADRACE_PORT_8000"])
def test_typing_errors_are_refused_with_any_value(name: str) -> None:
    for value in ("8000", "10.0.0.1", "tcp://10.0.0.1:8000"):
        with pytest.raises(SettingsError, match=f"{name} is not a setting"):
            Settings.from_env({name: value})


def test_they_are_told_of_in_one_sentence() -> None:
    environment = {
        **variables("headrace", "10.0.0.1", [(8000, "TCP", "http")]),
        "PATH": "/bin",
        "HEADRACE_MODELS": "echo",
    }
    notice = service_links.notice(environment)
    assert notice is not None
    assert notice.startswith("Ignored HEADRACE_PORT, HEADRACE_PORT_8000_TCP and 6 more: Kubernetes sets them")
    assert "enableServiceLinks: false" in notice
    assert service_links.notice({"PATH": "/bin", "HEADRACE_PORT": "8000"}) is None
