"""Settings of every process: read once from a mapping, checked, frozen.

The environment is the only source of these settings; ``models.toml`` describes models (see ``model_config.py``) and
gives way to the environment where both name the same thing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import partial
from typing import Any

from . import service_links
from . import setting_values as parse
from .limits import LONGEST_MS, LONGEST_TIMEOUT_MS
from .setting_values import MAX_BATCH_CEILING as MAX_BATCH_CEILING
from .setting_values import SettingsError as SettingsError

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
ON_OFF = ("on", "off")
CONSOLE = ("auto", "off", "read", "operate")
CACHE_SCOPES = ("key", "all")


def _setting(default: Any, parser: Callable[[str, str], Any], **limits: Any) -> Any:
    """A field whose value ``parser`` makes of the variable's name and text."""
    return field(default=default, repr="is_secret" not in limits, metadata={"parse": parser, **limits})


def _whole(default: int | None, low: int, high: int) -> Any:
    return _setting(default, partial(parse.whole, low=low, high=high), range=(low, high))


def _number(default: float | None, low: float, high: float) -> Any:
    return _setting(default, partial(parse.number, low=low, high=high))


def _choice(default: str | None, allowed: tuple[str, ...]) -> Any:
    return _setting(default, partial(parse.choice, allowed=allowed), choices=allowed)


@dataclass(frozen=True, slots=True)
class Settings:
    """Every ``HEADRACE_`` setting. Field names are the environment names in lower case without the prefix.

    ``None`` for a per-model setting means that the environment is silent and ``models.toml`` decides.
    """

    redis_url: str | None = _setting(None, parse.redis_address)
    redis_port: int = _whole(6399, 0, 65535)
    redis_ping_ms: int = _whole(2_000, 0, 3_600_000)
    host: str = _setting("127.0.0.1", parse.text_of)
    port: int = _whole(8000, 0, 65535)
    grpc_port: int | None = _whole(None, 0, 65535)
    models: tuple[str, ...] = _setting(("imagenet",), parse.model_names)
    default_model: str | None = _setting(None, parse.model_name)
    predict_route: str | None = _setting(None, parse.path)
    health_route: str | None = _setting(None, parse.path)
    models_file: str = _setting("models.toml", parse.text_of)
    data_dir: str = _setting(".headrace", parse.text_of)
    appendonly: str = _choice("everysec", APPENDONLY)
    maxmemory_mb: int = _whole(1024, 16, 1 << 20)
    shared_bodies_mb: int = _whole(64, 0, 1 << 20)
    max_batch: int | None = _whole(None, 1, MAX_BATCH_CEILING)
    window_ms: float | None = _number(None, 0, 60_000)
    batch_policy: str | None = _choice(None, POLICIES)
    buckets: tuple[int, ...] | None = _setting(None, parse.sizes)
    precision: str | None = _choice(None, PRECISIONS)
    runtime: str | None = _choice(None, RUNTIMES)
    tune: str = _choice("background", TUNE)
    tune_budget_s: float = _number(60, 1, 3600)
    device: str = _choice("auto", DEVICES)
    torch_threads: int = _whole(0, 0, 1024)
    decode_threads: int = _whole(2, 1, 256)
    decode_memory_mb: int = _whole(1024, 16, 1 << 20)
    longest_decode_ms: int = _whole(0, 0, 3_600_000)
    default_timeout_ms: int = _whole(10_000, 1, LONGEST_TIMEOUT_MS)
    max_timeout_ms: int = _whole(60_000, 1, LONGEST_TIMEOUT_MS)
    cache_s: float | None = _number(None, 0, 604_800)
    cache_mb: int | None = _whole(None, 1, 1 << 20)
    cache_scope: str | None = _choice(None, CACHE_SCOPES)
    later_timeout_ms: int = _whole(86_400_000, 1, LONGEST_MS)
    keep_ms: int = _whole(3_600_000, 1_000, LONGEST_MS)
    kept_bytes: int = _whole(0, 0, 1 << 50)
    max_listeners: int = _whole(2048, 1, 1_000_000)
    lane_limit: int = _whole(2048, 1, 10_000_000)
    lane_bytes: int = _whole(0, 0, 1 << 50)
    lane_tokens: int = _whole(0, 0, 1_000_000_000_000)
    lease_ms: int = _whole(5_000, 500, 3_600_000)
    longest_batch_ms: int = _whole(10_000, 100, 3_600_000)
    consumers: int = _whole(0, 0, MOST_CONSUMERS)
    pin: str = _choice("auto", PINNING)
    metrics_port: int = _whole(9101, 0, 65535)
    metrics_host: str = _setting("127.0.0.1", parse.text_of)
    max_body_bytes: int = _whole(16 * 1024 * 1024, 1024, 512 * 1024 * 1024)
    max_receiving_bytes: int = _whole(0, 0, 1 << 40)
    max_wait_ms: int = _whole(0, 0, 3_600_000)
    max_in_flight: int = _whole(4096, 1, 1_000_000)
    hold_while_cold: str = _choice("on", ON_OFF)
    log_level: str = _choice("info", LOG_LEVELS)
    log_format: str = _choice("text", LOG_FORMATS)
    tracing: str = _choice("off", TRACING)
    keys_file: str | None = _setting(None, parse.text_of)
    allow_anonymous: int = _whole(0, 0, 1)
    history_mb: int = _whole(16, 0, 1 << 20)
    goodput_ms: int | None = _whole(None, 1, LONGEST_TIMEOUT_MS)
    console: str = _choice("auto", CONSOLE)
    tls_cert_file: str | None = _setting(None, parse.text_of)
    tls_key_file: str | None = _setting(None, parse.text_of)
    api_metrics_port: int | None = _whole(None, 0, 65535)
    allowed_hosts: tuple[str, ...] | None = _setting(None, parse.hosts)
    cors_origins: tuple[str, ...] | None = _setting(None, parse.origins)
    private_networks: tuple[str, ...] | None = _setting(None, parse.networks)
    webhook_secrets: tuple[str, ...] | None = _setting(None, parse.secrets, is_secret=True)
    public_url: str | None = _setting(None, parse.base_url)
    write_timeout_s: float = _number(30, 0.1, 3600)
    max_sending_bytes: int = _whole(0, 0, 1 << 40)
    drain_s: float = _number(0, 0, 3600)
    generation_drain_ms: int = _whole(3_000, 0, 3_600_000)
    front_ends: int = _whole(0, 0, MOST_FRONT_ENDS)
    request_log_mb: int = _whole(16, 0, 1 << 16)
    results: str | None = _setting(None, parse.store)
    results_mb: int = _whole(4096, 1, 1 << 30)
    large_body_mb: int = _whole(256, 1, 1 << 20)
    bulk_items: int = _whole(100_000, 1, 999_999)
    bulk_mb: int = _whole(4096, 1, 1 << 30)
    uploads_mb: int = _whole(2048, 1, 1 << 30)
    uploads_per_key_mb: int = _whole(1024, 1, 1 << 30)
    upload_s: int = _whole(3_600, 10, 604_800)
    reference_origins: tuple[str, ...] | None = _setting(None, parse.origins)
    reference_folders: tuple[str, ...] | None = _setting(None, parse.folders)
    reference_buckets: tuple[str, ...] | None = _setting(None, parse.buckets)

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Settings:
        """Read every ``HEADRACE_`` name from ``environment``, except those that tell of a Service of Kubernetes.

        Names of hosting platforms stand for settings that ``environment`` does not have.

        Raises:
            SettingsError: a name is unknown, a value is malformed or out of range, or two settings contradict.
        """
        values: dict[str, Any] = {}
        for name, found in _OF_PLATFORMS.items():
            if name in environment:
                values[found] = _PARSERS[found](name, environment[name])
        for name, text in environment.items():
            if name.startswith(PREFIX) and name not in _NOT_SETTINGS and not service_links.is_link(name, text):
                found = _field_of(name)
                values[found] = _PARSERS[found](name, text)
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
        """Seconds between pings on an idle connection to Redis; infinity for never."""
        return self.redis_ping_ms / 1000 or math.inf

    @property
    def block_ms(self) -> int:
        """Longest wait of one blocking read: a fifth of the lease, 1 s at most: a stop waits for its end."""
        return min(1000, self.lease_ms // 5)

    @property
    def decode_limit_ms(self) -> float:
        """Time limit for decoding one input: as set, else half of the longest batch."""
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

    def reply_expiry_ms(self, ttl_ms: int, keep_ms: int | None = None) -> int:
        """Time a reply stays readable: as the request says, else its ``ttl_ms`` and four leases and longest batches."""
        return ttl_ms + 4 * (self.lease_ms + self.longest_batch_ms) if keep_ms is None else keep_ms

    def flight_expiry_ms(self, ttl_ms: int) -> int:
        """How long Redis remembers that an id is in flight: longer than its reply, which may be a lease late."""
        return ttl_ms + self.lease_ms + self.reply_expiry_ms(ttl_ms)


# Names that share the prefix but configure the test suite, or the load generator in the same shell (its API key).
_NOT_SETTINGS = frozenset({"HEADRACE_TEST_COMPOSE", "HEADRACE_TEST_REDIS_URL", "HEADRACE_API_KEY"})

_GONE = {
    "HEADRACE_RECIPE": "the runtime is chosen by measuring. HEADRACE_RUNTIME=torch runs models in PyTorch as they are "
    "written, and HEADRACE_TUNE=off looks for nothing faster.",
}
"""Settings of earlier versions, with what to do instead."""

_OF_PLATFORMS = {
    "SAGEMAKER_BIND_TO_PORT": "port",
    "AIP_HTTP_PORT": "port",
    "AIP_PREDICT_ROUTE": "predict_route",
    "AIP_HEALTH_ROUTE": "health_route",
}
"""Variables with which Amazon SageMaker and Vertex AI tell a container what they expect."""

_KNOWN = {PREFIX + one.name.upper(): one.name for one in fields(Settings)}
_PARSERS = {one.name: one.metadata["parse"] for one in fields(Settings)}


def _field_of(name: str) -> str:
    found = _KNOWN.get(name)
    if found is None and name in _GONE:
        raise SettingsError(f"{name} is gone: {_GONE[name]}")
    if found is None:
        near = get_close_matches(name.removeprefix(PREFIX).lower(), _KNOWN.values(), n=1)
        advice = f"did you mean {PREFIX}{near[0].upper()}?" if near else "docs/settings.md lists those there are."
        raise SettingsError(f"{name} is not a setting; {advice}")
    return found


def check_one(name: str, text: str) -> None:
    """Check one variable of an environment by itself; one that is no setting passes.

    Raises:
        SettingsError: there is no such setting, or it cannot have this value.
    """
    if name in _OF_PLATFORMS:
        _PARSERS[_OF_PLATFORMS[name]](name, text)
    elif name.startswith(PREFIX) and name not in _NOT_SETTINGS and not service_links.is_link(name, text):
        _PARSERS[_field_of(name)](name, text)


def _check_together(settings: Settings) -> None:
    if settings.default_timeout_ms > settings.max_timeout_ms:
        raise SettingsError(
            f"HEADRACE_DEFAULT_TIMEOUT_MS ({settings.default_timeout_ms}) must not exceed "
            f"HEADRACE_MAX_TIMEOUT_MS ({settings.max_timeout_ms})."
        )
    if settings.grpc_port and settings.grpc_port == settings.port:
        raise SettingsError(f"HEADRACE_GRPC_PORT must not be HEADRACE_PORT ({settings.port}), which is that of HTTP.")
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
