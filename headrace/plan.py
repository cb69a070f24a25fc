"""From settings to the list of processes. Pure: nothing is started and nothing is asked here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from shared.model_config import ModelConfig
from shared.settings import Settings

from .child import ChildSpec, Stage

CLASSIFIERS = ("timm", "torchvision")


@dataclass(frozen=True, slots=True)
class Commands:
    """The command lines of the parts; tests put small stand-ins here."""

    front_end: tuple[str, ...] = (sys.executable, "-m", "producer_api")
    consumer: tuple[str, ...] = (sys.executable, "-m", "consumer")
    # Long enough for weights that are fetched from a hub the first time.
    wait: tuple[str, ...] = (sys.executable, "-m", "loadgen", "wait", "--timeout", "900s")


def consumer_names(settings: Settings) -> list[tuple[str, str]]:
    """Return ``(display name, model)`` of every consumer process, in the order of their index."""
    return [
        (f"consumer {model}" if settings.consumers == 1 else f"consumer {model} {number}", model)
        for model in settings.models
        for number in range(1, settings.consumers + 1)
    ]


def service_specs(settings: Settings, commands: Commands) -> list[ChildSpec]:
    """Return the consumers and the front end.

    A consumer may use the longest batch time to drain, and a front end as long as its requests may wait.
    """
    drain_s = settings.longest_batch_ms / 1000 + 5
    specs = [
        ChildSpec(name, (*commands.consumer, "--model", model, "--index", str(index)), Stage.CONSUMER, drain_s)
        for index, (name, model) in enumerate(consumer_names(settings))
    ]
    answer_s = settings.default_timeout_ms / 1000 + 5
    specs.append(ChildSpec("producer_api", commands.front_end, Stage.FRONT_END, answer_s))
    return specs


def redis_spec(argv: list[str], ready: Callable[[], bool]) -> ChildSpec:
    """Return the embedded server, which starts first and stops last."""
    return ChildSpec("redis", tuple(argv), Stage.REDIS, stop_limit_s=15.0, ready=ready)


def probe_specs(settings: Settings, commands: Commands) -> list[ChildSpec]:
    """Return, for each model, the process that ends with 0 once a real inference has succeeded."""
    url = base_url(settings)
    return [
        ChildSpec(
            f"wait {model}",
            (*commands.wait, "--url", url, "--model", model, "--workers", str(settings.consumers)),
            Stage.PROBE,
            stop_limit_s=1.0,
        )
        for model in settings.models
    ]


def child_environment(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of every child: the caller's own, with the addresses that were settled for this run."""
    if settings.redis_url is None:
        raise ValueError("settings.redis_url must be settled before processes are planned")
    return {
        **environment,
        "HEADRACE_REDIS_URL": settings.redis_url,
        "HEADRACE_PORT": str(settings.port),
        "HEADRACE_METRICS_PORT": str(settings.metrics_port),
        "PYTHONUNBUFFERED": "1",
    }


def settle(settings: Settings, *, redis_url: str, port: int, metrics_port: int) -> Settings:
    """Return the settings with the addresses that this run really uses, in the place of 0 and None."""
    return replace(settings, redis_url=redis_url, port=port, metrics_port=metrics_port)


def base_url(settings: Settings) -> str:
    """Return the address at which this machine reaches the front end, such as ``http://127.0.0.1:8000``."""
    return f"http://{_reachable(settings.host)}:{settings.port}"


def _reachable(host: str) -> str:
    if host in ("0.0.0.0", "::", ""):
        return "127.0.0.1" if host != "::" else "[::1]"
    return f"[{host}]" if ":" in host else host


def banner(settings: Settings, models: Mapping[str, ModelConfig], took_s: float) -> str:
    """Return what is printed once the stack is ready: addresses, and a line to paste for each model."""
    url = base_url(settings)
    metrics = [f"  metrics    {url}/metrics"]
    metrics_host = _reachable(settings.metrics_host)
    metrics += [
        f"             http://{metrics_host}:{settings.metrics_port + index}/metrics ({name})"
        for index, (name, _) in enumerate(consumer_names(settings))
    ]
    return "\n".join(
        [
            "",
            f"Headrace is ready after {took_s:.1f} s: a real inference has come back from {', '.join(models)}.",
            f"  API        {url}",
            f"  docs page  {url}/docs",
            f"  Redis      {_without_password(settings.redis_url or '')} (for direct producers, docs/protocol.md)",
            *metrics,
            "Try it:",
            *(f"  {_curl(url, name, config)}" for name, config in models.items()),
            "Ctrl-C stops everything.",
            "",
        ]
    )


def _curl(url: str, name: str, config: ModelConfig) -> str:
    predict = f"{url}/v1/models/{name}/predict"
    if config.family in CLASSIFIERS:
        return f"curl -H 'Content-Type: image/jpeg' --data-binary @examples/photos/cat.jpg {predict}"
    if config.family == "echo":
        return f"curl -H 'Content-Type: application/octet-stream' --data-binary hello {predict}"
    return f"curl {url}/v1/models/{name}"


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
