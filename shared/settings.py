"""Settings of every process: read once from a mapping, checked, frozen.

The environment is the only source of these settings; ``models.toml`` describes models (see ``model_config.py``) and
gives way to the environment where both name the same thing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from . import redis_url, service_links
from .names import check_name

PREFIX = "HEADRACE_"
POLICIES = ("adaptive", "window")
DEFAULT_WINDOW_MS = 5.0
PRECISIONS = ("auto", "fp32", "tf32", "fp16", "bf16", "int8")
RUNTIMES = ("auto", "torch", "onnxruntime", "openvino", "compile", "cudagraphs", "tensorrt")
TUNE = ("background", "first", "off")
DEVICES = ("auto", "cpu", "cuda")
APPENDONLY = ("everysec", "always", "no")
PINNING = ("auto", "off")
MOST_CONSUMERS = 256
MOST_FRONT_ENDS = 64
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")
TRACING = ("off", "otlp")
MAX_BATCH_CEILING = 4096

_HOST = re.compile(r"(?:\*|(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|[0-9a-f]*:[0-9a-f:.]*)\Z")
_ORIGIN = re.compile(r"(?:\*|[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?)\Z")


class SettingsError(ValueError):
    """A setting is unknown, malformed, or contradicts another; the message is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Every ``HEADRACE_`` setting. Field names are the environment names in lower case without the prefix.

    ``None`` for a per-model setting means that the environment is silent and ``models.toml`` decides.
    """

    redis_url: str | None = None
    redis_port: int = 6399
    redis_ping_ms: int = 2_000
    host: str = "127.0.0.1"
    port: int = 8000
    models: tuple[str, ...] = ("imagenet",)
    models_file: str = "models.toml"
    data_dir: str = ".headrace"
    appendonly: str = "everysec"
    maxmemory_mb: int = 1024
    shared_bodies_mb: int = 64
    max_batch: int | None = None
    window_ms: float | None = None
    batch_policy: str | None = None
    buckets: tuple[int, ...] | None = None
    precision: str | None = None
    runtime: str | None = None
    tune: str = "background"
    tune_budget_s: float = 60
    device: str = "auto"
    torch_threads: int = 0
    decode_threads: int = 2
    decode_memory_mb: int = 1024
    longest_decode_ms: int = 0
    default_timeout_ms: int = 10_000
    max_timeout_ms: int = 60_000
    lane_limit: int = 2048
    lane_bytes: int = 0
    lease_ms: int = 5_000
    longest_batch_ms: int = 10_000
    consumers: int = 0
    pin: str = "auto"
    metrics_port: int = 9101
    metrics_host: str = "127.0.0.1"
    max_body_bytes: int = 16 * 1024 * 1024
    max_receiving_bytes: int = 0
    max_wait_ms: int = 0
    max_in_flight: int = 4096
    log_level: str = "info"
    log_format: str = "text"
    tracing: str = "off"
    keys_file: str | None = None
    allow_anonymous: int = 0
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    api_metrics_port: int | None = None
    allowed_hosts: tuple[str, ...] | None = None
    cors_origins: tuple[str, ...] | None = None
    write_timeout_s: float = 30
    max_sending_bytes: int = 0
    drain_s: float = 0
    front_ends: int = 0

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Settings:
        """Read every ``HEADRACE_`` name from ``environment``, except those that tell of a Service of Kubernetes.

        Raises:
            SettingsError: a name is unknown, a value is malformed or out of range, or two settings contradict.
        """
        values: dict[str, Any] = {}
        for name, text in environment.items():
            if name.startswith(PREFIX) and name not in _NOT_SETTINGS and not service_links.is_link(name, text):
                field = _field_of(name)
                values[field] = _parse(field, name, text)
        settings = cls(**values)
        _check_together(settings)
        return settings

    @property
    def shares_port(self) -> bool:
        """Whether this front end is one of several on one port. 0 is for ``headrace up`` to settle: alone, as far as
        a process that was started by hand can know."""
        return self.front_ends > 1

    @property
    def redis_address(self) -> str:
        """Where Redis is: ``redis_url``, else the embedded server's port on this machine."""
        return self.redis_url or f"redis://127.0.0.1:{self.redis_port}"

    @property
    def redis_ping_s(self) -> float:
        """How often an idle connection to Redis is asked whether it is there; infinity for never."""
        return self.redis_ping_ms / 1000 or math.inf

    @property
    def block_ms(self) -> int:
        """Longest wait of one blocking read: a fifth of the lease, 1 s at most: a stop waits for its end."""
        return min(1000, self.lease_ms // 5)

    @property
    def decode_limit_ms(self) -> float:
        """Time after which decoding one input is given up: as set, else half of the longest batch."""
        return self.longest_decode_ms or self.longest_batch_ms / 2

    @property
    def socket_timeout_s(self) -> float:
        """Time after which a silent Redis connection counts as lost: three fifths of the lease, 3 s at most."""
        return min(3.0, max(1.0, self.lease_ms * 0.6 / 1000), self.lease_ms * 0.8 / 1000)

    @property
    def heartbeat_ms(self) -> int:
        """Time between two heartbeats of a consumer: a fifth of the lease, 1 s at most."""
        return self.block_ms

    @property
    def receiving_limit_bytes(self) -> int:
        """What bodies may hold together while they are received: as set, else sixteen times the largest body."""
        return self.max_receiving_bytes or 16 * self.max_body_bytes

    @property
    def max_message_bytes(self) -> int:
        """Longest request that consumers decode: what the largest body may become, since ``0,`` can be a FP64."""
        return 4 * self.max_body_bytes + 1024 * 1024

    @property
    def sending_limit_bytes(self) -> int:
        """What answers may hold together until their clients read them: as set, else sixteen times the largest body."""
        return self.max_sending_bytes or 16 * self.max_body_bytes

    def reply_expiry_ms(self, ttl_ms: int) -> int:
        """Time a reply stays readable: the request's own time to live and four times a lease and the longest batch."""
        return ttl_ms + 4 * (self.lease_ms + self.longest_batch_ms)

    def flight_expiry_ms(self, ttl_ms: int) -> int:
        """Time an id is known to be under way: longer than its reply, which may come up to a lease after its end."""
        return ttl_ms + self.lease_ms + self.reply_expiry_ms(ttl_ms)


# Names that share the prefix but configure the test suite, or the load generator in the same shell (its API key).
_NOT_SETTINGS = frozenset({"HEADRACE_TEST_COMPOSE", "HEADRACE_TEST_REDIS_URL", "HEADRACE_API_KEY"})

_GONE = {
    "HEADRACE_RECIPE": "the runtime is chosen by measuring. HEADRACE_RUNTIME=torch runs models in PyTorch as they are "
    "written, and HEADRACE_TUNE=off looks for nothing faster.",
}
"""Settings of earlier versions, with what to do instead."""

_KNOWN = {PREFIX + field.name.upper(): field.name for field in fields(Settings)}


def _field_of(name: str) -> str:
    field = _KNOWN.get(name)
    if field is None and name in _GONE:
        raise SettingsError(f"{name} is gone: {_GONE[name]}")
    if field is None:
        near = get_close_matches(name.removeprefix(PREFIX).lower(), _KNOWN.values(), n=1)
        advice = f"did you mean {PREFIX}{near[0].upper()}?" if near else "docs/settings.md lists those there are."
        raise SettingsError(f"{name} is not a setting; {advice}")
    return field


def _integer(name: str, text: str, low: int, high: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise SettingsError(f"{name} must be a whole number, not {text!r}.") from None
    if not low <= value <= high:
        raise SettingsError(f"{name} must lie between {low} and {high}, not {value}.")
    return value


def _number(name: str, text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        raise SettingsError(f"{name} must be a number, not {text!r}.") from None
    if not low <= value <= high:
        raise SettingsError(f"{name} must lie between {low:g} and {high:g}, not {text}.")
    return value


def _choice(name: str, text: str, allowed: tuple[str, ...]) -> str:
    if text not in allowed:
        raise SettingsError(f"{name} must be one of {', '.join(allowed)}, not {text!r}.")
    return text


def _names(name: str, text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise SettingsError(f"{name} must name at least one model.")
    try:
        for part in names:
            check_name(part, f"A model in {name}")
    except ValueError as error:
        raise SettingsError(str(error)) from None
    if len(set(names)) != len(names):
        raise SettingsError(f"{name} names a model twice: {text}.")
    return names


def _hosts(name: str, text: str) -> tuple[str, ...]:
    hosts = tuple(part.strip().lower() for part in text.split(","))
    for host in hosts:
        if not _HOST.match(host):
            raise SettingsError(
                f"{name} lists names without scheme and port (api.example.org, *.example.org, or * for any), "
                f"not {host!r}."
            )
    return hosts


def _origins(name: str, text: str) -> tuple[str, ...]:
    origins = tuple(part.strip().lower() for part in text.split(","))
    for origin in origins:
        if not _ORIGIN.match(origin):
            raise SettingsError(
                f"{name} lists origins such as https://app.example.org or http://localhost:3000, without a path, or is "
                f"*, not {origin!r}."
            )
    return origins


def _sizes(name: str, text: str) -> tuple[int, ...]:
    sizes = {_integer(f"Each size in {name}", part.strip(), 1, MAX_BATCH_CEILING) for part in text.split(",")}
    return tuple(sorted(sizes))


def _redis_url(name: str, text: str) -> str:
    if not text.startswith(redis_url.SCHEMES):
        raise SettingsError(f"{name} must start with {', '.join(redis_url.SCHEMES[:-1])} or {redis_url.SCHEMES[-1]}.")
    # No sentence shows a part of the address: what cannot be read may be a password.
    try:
        redis_url.check(text)
    except ValueError as error:
        raise SettingsError(f"{name} is not a valid address: {error}.") from None
    return text


_INTEGERS: dict[str, tuple[int, int]] = {
    "redis_port": (0, 65535),
    "redis_ping_ms": (0, 3_600_000),
    "port": (0, 65535),
    "maxmemory_mb": (16, 1 << 20),
    "shared_bodies_mb": (0, 1 << 20),
    "max_batch": (1, MAX_BATCH_CEILING),
    "torch_threads": (0, 1024),
    "decode_threads": (1, 256),
    "decode_memory_mb": (16, 1 << 20),
    "longest_decode_ms": (0, 3_600_000),
    "default_timeout_ms": (1, 3_600_000),
    "max_timeout_ms": (1, 3_600_000),
    "lane_limit": (1, 10_000_000),
    "lane_bytes": (0, 1 << 50),
    "lease_ms": (500, 3_600_000),
    "longest_batch_ms": (100, 3_600_000),
    "consumers": (0, MOST_CONSUMERS),
    "metrics_port": (0, 65535),
    "max_body_bytes": (1024, 512 * 1024 * 1024),
    "max_receiving_bytes": (0, 1 << 40),
    "max_sending_bytes": (0, 1 << 40),
    "max_wait_ms": (0, 3_600_000),
    "max_in_flight": (1, 1_000_000),
    "allow_anonymous": (0, 1),
    "api_metrics_port": (0, 65535),
    "front_ends": (0, MOST_FRONT_ENDS),
}
_NUMBERS: dict[str, tuple[float, float]] = {
    "window_ms": (0, 60_000),
    "write_timeout_s": (0.1, 3600),
    "drain_s": (0, 3600),
    "tune_budget_s": (1, 3600),
}
_CHOICES = {
    "appendonly": APPENDONLY,
    "batch_policy": POLICIES,
    "precision": PRECISIONS,
    "runtime": RUNTIMES,
    "tune": TUNE,
    "device": DEVICES,
    "pin": PINNING,
    "log_level": LOG_LEVELS,
    "log_format": LOG_FORMATS,
    "tracing": TRACING,
}


def _parse(field: str, name: str, text: str) -> Any:
    if field in _INTEGERS:
        return _integer(name, text, *_INTEGERS[field])
    if field in _CHOICES:
        return _choice(name, text, _CHOICES[field])
    if field in _NUMBERS:
        return _number(name, text, *_NUMBERS[field])
    if field == "allowed_hosts":
        return _hosts(name, text)
    if field == "cors_origins":
        return _origins(name, text)
    if field == "buckets":
        return _sizes(name, text)
    if field == "models":
        return _names(name, text)
    if field == "redis_url":
        return _redis_url(name, text)
    if not text.strip():
        raise SettingsError(f"{name} must not be empty.")
    return text


def _check_together(settings: Settings) -> None:
    if settings.default_timeout_ms > settings.max_timeout_ms:
        raise SettingsError(
            f"HEADRACE_DEFAULT_TIMEOUT_MS ({settings.default_timeout_ms}) must not exceed "
            f"HEADRACE_MAX_TIMEOUT_MS ({settings.max_timeout_ms})."
        )
    if (settings.tls_cert_file is None) != (settings.tls_key_file is None):
        raise SettingsError("HEADRACE_TLS_CERT_FILE and HEADRACE_TLS_KEY_FILE go together: set both or none.")
    if settings.receiving_limit_bytes < settings.max_body_bytes:
        raise SettingsError(
            f"HEADRACE_MAX_RECEIVING_BYTES ({settings.max_receiving_bytes}) must not be less than "
            f"HEADRACE_MAX_BODY_BYTES ({settings.max_body_bytes})."
        )
    if settings.sending_limit_bytes < settings.max_body_bytes:
        raise SettingsError(
            f"HEADRACE_MAX_SENDING_BYTES ({settings.max_sending_bytes}) must not be less than "
            f"HEADRACE_MAX_BODY_BYTES ({settings.max_body_bytes})."
        )
    check_window(settings.window_ms or 0, settings, "HEADRACE_WINDOW_MS")


def check_window(window_ms: float, settings: Settings, name: str) -> None:
    """Refuse a window longer than anything in a consumer may take.

    Raises:
        SettingsError: the window is not shorter than the longest batch time.
    """
    if window_ms >= settings.longest_batch_ms:
        raise SettingsError(
            f"{name} ({window_ms:g}) must be shorter than HEADRACE_LONGEST_BATCH_MS ({settings.longest_batch_ms})."
        )
