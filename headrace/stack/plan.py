"""From settings to the list of processes. Pure: starts nothing, and sends no request."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from headrace.asking.address import base_url, reachable_in_address
from headrace.asking.local_http import listens, reachable
from headrace.operate import examples
from headrace.operate.probe import is_loaded
from headrace.sizing import Place
from shared.model_config import ModelConfig
from shared.modules import COMMAND, full_name
from shared.redis.embedded import KEEPS_FREED_MEMORY
from shared.redis_url import shown
from shared.settings import Settings

from .bringup import Report
from .child import ChildSpec, Stage
from .private_folder import UMASK

CLOSE_AND_EXIT_S = 15.0
"""Longer than a consumer waits for its model's close (5 s) and for what runs at its exit (7 s)."""

MOST_ADDRESSES = 8
"""Metrics addresses that the banner shows for one model."""


@dataclass(frozen=True, slots=True)
class Commands:
    """The command lines of the parts; tests put small stand-ins here."""

    front_end: tuple[str, ...] = (sys.executable, "-m", full_name("producer_api"))
    consumer: tuple[str, ...] = (sys.executable, "-m", full_name("consumer"))
    # Long enough for weights that are fetched from a hub the first time.
    wait: tuple[str, ...] = (sys.executable, "-m", full_name("loadgen"), "wait", "--timeout", "900s")


def service_specs(settings: Settings, commands: Commands, places: Sequence[Place]) -> list[ChildSpec]:
    """Return the consumers and the front ends.

    A consumer may take the longest batch time to drain, and some more to close its model and to end; a front end its
    drain time and as long as its requests may wait. The start continues once the front ends accept connections, so
    that the banner shows only addresses that answer.
    """
    consumers = [_consumer_spec(settings, commands, place) for place in places]
    return consumers + [_front_end_spec(settings, commands, index) for index in range(max(1, settings.front_ends))]


def _front_end_spec(settings: Settings, commands: Commands, index: int) -> ChildSpec:
    answer_s = settings.drain_s + settings.default_timeout_ms / 1000 + 5
    host, port = reachable(settings.host), settings.port
    if not settings.shares_port:
        return ChildSpec(
            "producer_api", commands.front_end, Stage.FRONT_END, answer_s, partial(listens, host, port), index=index
        )
    # The shared port does not tell which process listens, so also check each one's metrics port, opened just before.
    own = [(host, port), (reachable(settings.metrics_host), front_end_metrics_port(settings, index))]
    return ChildSpec(
        f"producer_api {index + 1}",
        (*commands.front_end, "--index", str(index)),
        Stage.FRONT_END,
        answer_s,
        lambda: all(listens(*address) for address in own),
        index=index,
    )


def front_end_metrics_port(settings: Settings, index: int) -> int:
    """Return the metrics port of one of several front ends; the first one's is in the settings."""
    return (settings.api_metrics_port or 0) + index


def _consumer_spec(settings: Settings, commands: Commands, place: Place) -> ChildSpec:
    argv = [*commands.consumer, "--model", place.model, "--index", str(place.index)]
    if place.cores:
        argv += ["--cores", ",".join(map(str, place.cores))]
    drain_s = settings.longest_batch_ms / 1000 + CLOSE_AND_EXIT_S
    return ChildSpec(
        place.name,
        tuple(argv),
        Stage.CONSUMER,
        drain_s,
        environment=tuple(place.environment.items()),
        model=place.model,
        index=place.index,
        is_loaded=partial(is_loaded, settings, place.index),
    )


def redis_spec(argv: list[str], ready: Callable[[], bool]) -> ChildSpec:
    """Return the embedded server, which starts first and stops last."""
    return ChildSpec(
        "redis",
        tuple(argv),
        Stage.REDIS,
        stop_limit_s=15.0,
        ready=ready,
        environment=tuple(KEEPS_FREED_MEMORY.items()),
        umask=UMASK,
    )


def probe_specs(settings: Settings, commands: Commands, places: Sequence[Place]) -> list[ChildSpec]:
    """Return, for each model, the process that ends with 0 once all its workers live and an inference has succeeded.

    None with API keys or TLS.
    """
    if not _can_ask(settings):
        return []
    url, workers = base_url(settings), Counter(place.model for place in places)
    return [
        ChildSpec(
            f"wait {model}",
            (*commands.wait, "--url", url, "--model", model, "--workers", str(count)),
            Stage.PROBE,
            stop_limit_s=1.0,
            model=model,
        )
        for model, count in workers.items()
    ]


def child_environment(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of every child: the caller's own, with the addresses that were settled for this run."""
    if settings.redis_url is None:
        raise ValueError("settings.redis_url must be settled before processes are planned")
    several = {
        "HEADRACE_FRONT_ENDS": str(settings.front_ends),
        "HEADRACE_API_METRICS_PORT": str(settings.api_metrics_port),
    }
    results = {} if settings.results is None else {"HEADRACE_RESULTS": settings.results}
    return {
        **environment,
        **results,
        "HEADRACE_REDIS_URL": settings.redis_url,
        "HEADRACE_PORT": str(settings.port),
        "HEADRACE_MODELS": ",".join(settings.models),
        "HEADRACE_METRICS_PORT": str(settings.metrics_port),
        **(several if settings.shares_port else {}),
        **({} if settings.grpc_port is None else {"HEADRACE_GRPC_PORT": str(settings.grpc_port)}),
        "PYTHONUNBUFFERED": "1",
    }


def settle(
    settings: Settings,
    *,
    redis_url: str,
    port: int,
    metrics_port: int,
    front_ends: int = 1,
    api_metrics_port: int | None = None,
    grpc_port: int | None = None,
) -> Settings:
    """Return the settings with the addresses and the number of front ends that this run really uses, in the place of 0
    and None."""
    return replace(
        settings,
        redis_url=redis_url,
        port=port,
        metrics_port=metrics_port,
        front_ends=front_ends,
        api_metrics_port=api_metrics_port,
        grpc_port=grpc_port,
    )


def banner(
    settings: Settings,
    models: Mapping[str, ModelConfig],
    places: Sequence[Place],
    took_s: float,
    report: Report | None = None,
    curl: Callable[[str, str, ModelConfig], str] = examples.curl,
) -> str:
    """Return what is printed once the stack is ready: addresses, and a line to paste for each model that is.

    Args:
        report: which models are ready and which failed; None: all are ready.
        curl: makes the line of a model from the front end's address, its name and its table.
    """
    url, report = base_url(settings), report or Report(tuple(models))
    ready = {name: config for name, config in models.items() if name in report.ready}
    return "\n".join(
        [
            "",
            *_ready_lines(settings, report, took_s),
            *([f"  front ends {settings.front_ends} on one port (docs/running.md)"] if settings.shares_port else []),
            *(f"  {line}" for line in sizing_lines(places)),
            f"  API        {url}",
            *([] if settings.console == "off" else [f"  console    {url}/console"]),
            f"  docs page  {url}/docs",
            *([] if settings.grpc_port is None else _grpc_lines(settings)),
            f"  Redis      {shown(settings.redis_url or '')} (for direct producers, docs/protocol.md)",
            *_front_end_metrics_lines(settings, url),
            *_metrics_lines(settings, places),
            *(["Try it:"] if ready else []),
            *(f"  {curl(url, name, config)}" for name, config in ready.items()),
            "Ctrl-C stops everything.",
            "",
        ]
    )


def _can_ask(settings: Settings) -> bool:
    """Say whether ``up`` can send a first request: not with API keys, of which it knows only hashes, and not with
    a certificate, which may not be valid for this machine's own address."""
    return settings.keys_file is None and settings.tls_cert_file is None


def _ready_lines(settings: Settings, report: Report, took_s: float) -> list[str]:
    if not _can_ask(settings):
        return [f"Headrace was started in {took_s:.1f} s, with API keys or TLS; /readyz says when a model is ready."]
    if report.ready:
        names = ", ".join(report.ready)
        lines = [f"Headrace is ready after {took_s:.1f} s, and has run the samples of {names}."]
    else:
        lines = [f"Headrace runs after {took_s:.1f} s, but no model is ready."]
    lines += [f"  LOADING    {model}: a line below will say when it is ready." for model in report.loading]
    lines += [f"  FAILED     {model}: {why}" for model, why in report.failed.items()]
    if report.failed:
        lines.append(f"             It is tried again, after longer and longer pauses: `{COMMAND} status`.")
    return lines


def sizing_lines(places: Sequence[Place]) -> list[str]:
    """Return a line for each model that several processes serve."""
    lines = []
    for model, group in _by_model(places).items():
        if len(group) == 1:
            continue
        where = "one GPU each" if group[0].gpu is not None else f"{group[0].threads or 1} thread(s) each"
        pinned = ", each on cores of its own" if group[0].cores else ""
        lines.append(f"consumers  {len(group)} of {model}, {where}{pinned} (docs/running.md)")
    return lines


def _grpc_lines(settings: Settings) -> list[str]:
    if settings.grpc_port is None:
        return []
    return [f"  gRPC       {reachable_in_address(settings.host)}:{settings.grpc_port}"]


def _front_end_metrics_lines(settings: Settings, url: str) -> list[str]:
    host, port = reachable_in_address(settings.metrics_host), settings.api_metrics_port
    if settings.shares_port:
        ports = [front_end_metrics_port(settings, index) for index in range(settings.front_ends)]
        shown = [f"http://{host}:{port}/metrics (producer_api {number})" for number, port in enumerate(ports, 1)]
        if len(shown) > MOST_ADDRESSES:
            shown = [shown[0], f"... to port {ports[-1]}, one for each of the {len(ports)} front ends"]
    elif port == 0:
        shown = ["on a free port, which the log of producer_api names"]
    else:
        shown = [f"{url}/metrics" if port is None else f"http://{host}:{port}/metrics"]
    return [f"  metrics    {shown[0]}", *(f"             {line}" for line in shown[1:])]


def _metrics_lines(settings: Settings, places: Sequence[Place]) -> list[str]:
    host, lines = reachable_in_address(settings.metrics_host), []
    for model, group in _by_model(places).items():
        ports = [settings.metrics_port + place.index for place in group]
        shown = [f"http://{host}:{port}/metrics ({place.name})" for port, place in zip(ports, group, strict=True)]
        if len(group) > MOST_ADDRESSES:
            shown = [shown[0], f"... to port {ports[-1]}, one for each of the {len(group)} consumers of {model}"]
        lines += [f"             {line}" for line in shown]
    return lines


def _by_model(places: Sequence[Place]) -> dict[str, list[Place]]:
    groups: dict[str, list[Place]] = {}
    for place in places:
        groups.setdefault(place.model, []).append(place)
    return groups
