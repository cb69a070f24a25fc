"""Which ports a stack takes: those that the settings name, and free ones in the place of 0 [I/O: each is tried]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shared.net.listener import can_share
from shared.settings import Settings, SettingsError

from . import preflight

LAST_PORT: Final = 65535

_METRICS: Final = "HEADRACE_METRICS_PORT"
_API_METRICS: Final = "HEADRACE_API_METRICS_PORT"


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of a stack.

    Attributes:
        api: of all front ends.
        metrics: of the first consumer; each further one has the next.
        api_metrics: of the first of several front ends, each further one has the next. Of a single one what the
            setting says, None for none.
        grpc: of all front ends; None for none.
    """

    api: int
    metrics: int
    api_metrics: int | None
    grpc: int | None = None


def choose(settings: Settings, consumers: int, front_ends: int) -> Ports:
    """Return the ports that ``settings`` name, after checking that each is free.

    Raises:
        SettingsError: one cannot.
    """
    if front_ends > 1 and not can_share():
        raise SettingsError("HEADRACE_FRONT_ENDS: only Linux deals one port out to several processes; set it to 1.")
    api = settings.port or preflight.free_ports("HEADRACE_PORT", settings.host, 1)
    preflight.check_port("HEADRACE_PORT", settings.host, api)
    grpc = settings.grpc_port
    if grpc is not None:
        while grpc in (0, api):
            grpc = preflight.free_ports("HEADRACE_GRPC_PORT", settings.host, 1)
        preflight.check_port("HEADRACE_GRPC_PORT", settings.host, grpc)
    alone, unnamed = front_ends == 1, settings.api_metrics_port is None
    behind = front_ends if not alone and unnamed else 0  # front ends whose metrics follow the consumers'
    metrics = _row(_METRICS, settings.metrics_host, settings.metrics_port, consumers, "consumers", behind)
    if alone:
        return Ports(api, metrics, settings.api_metrics_port, grpc)
    if unnamed:
        return Ports(api, metrics, metrics + consumers, grpc)
    first = settings.api_metrics_port or 0
    return Ports(api, metrics, _row(_API_METRICS, settings.metrics_host, first, front_ends, "front ends"), grpc)


def _row(setting: str, host: str, first: int, count: int, whose: str, behind: int = 0) -> int:
    """Return the first of consecutive ports, one for each of ``count`` processes and of ``behind`` front ends."""
    all_of_them = count + behind
    if first == 0:
        return preflight.free_ports(setting, host, all_of_them)
    last = first + all_of_them - 1
    if last > LAST_PORT:
        those = f"{count} {whose}" + (f" and {behind} front ends" if behind else "")
        raise SettingsError(
            f"{setting}: {those} need the ports {first} to {last}, and the last port there is is {LAST_PORT}; start "
            "lower, or with fewer."
        )
    for port in range(first, last + 1):
        preflight.check_port(setting, host, port)
    return first
