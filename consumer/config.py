"""What one consumer process runs, worked out once from the environment and ``models.toml``."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from shared.model_config import ModelConfig, load, pick
from shared.names import host_name
from shared.own_models import parse
from shared.settings import DEFAULT_WINDOW_MS, Settings, SettingsError, check_window
from shared.state.cards import CacheSettings

from .batching.buckets import buckets


@dataclass(frozen=True, slots=True)
class ConsumerConfig:
    """Settings of one consumer, the environment having beaten ``models.toml``."""

    model_name: str
    model: ModelConfig
    settings: Settings
    worker: str
    precision: str
    max_batch: int
    window_ms: float
    policy: str
    metrics_port: int
    index: int = 0
    cache: CacheSettings | None = None

    @property
    def place(self) -> str:
        """What this consumer has in common with one that takes its place: host and index."""
        return f"{host_name()}-{self.index}"

    @property
    def buckets(self) -> tuple[int, ...]:
        """Batch sizes to prepare for and to measure before reporting ready; the last one is the largest batch."""
        return buckets(self.max_batch, self.settings.buckets or self.model.buckets)


def worker_name() -> str:
    """Make a name for this process: host, process id, and a few random letters against reuse of ids."""
    return f"{host_name()}-{os.getpid()}-{secrets.token_hex(3)}"


def batching(settings: Settings, model: ModelConfig) -> tuple[str, float]:
    """Work out policy and window in ms.

    Setting a window without a policy selects ``window``; with neither, the policy is ``adaptive``.
    """
    window_ms = model.window_ms if settings.window_ms is None else settings.window_ms
    policy = settings.batch_policy or model.batch_policy or ("adaptive" if window_ms is None else "window")
    return policy, DEFAULT_WINDOW_MS if window_ms is None else window_ms


def caching(settings: Settings, model: ModelConfig) -> CacheSettings | None:
    """Work out what front ends may keep of the model's answers; None for nothing."""
    ttl_s = model.cache_s if settings.cache_s is None else settings.cache_s
    limit_mb = settings.cache_mb or model.cache_mb
    return CacheSettings(ttl_s, limit_mb << 20, settings.cache_scope or model.cache_scope) if ttl_s else None


def _named(settings: Settings, text: str) -> tuple[str, ModelConfig]:
    """Return name and table of the model that ``--model`` names: one of the models file, or a file and a class."""
    tables = load(settings.models_file)
    if ":" not in text and "=" not in text:
        return text, pick(tables, text, settings.models_file)
    own = parse(text)
    if own.name in tables:
        raise SettingsError(f"--model: there is a model {own.name!r} already; write NAME=FILE.py:CLASS.")
    return own.name, ModelConfig(family="python", entry=own.entry)


def resolve(settings: Settings, model: str, index: int) -> ConsumerConfig:
    """Work out the configuration of the consumer with the given index.

    Args:
        settings: of the process.
        model: a name in the models file, or ``[NAME=]FILE.py:CLASS``.
        index: of this process among the consumers of its model.

    Raises:
        SettingsError: the models file or the combination of settings is wrong.
    """
    model_name, table = _named(settings, model)
    policy, window_ms = batching(settings, table)
    check_window(window_ms, settings, f"window_ms of model {model_name}")
    if index < 0:
        raise SettingsError(f"--index must not be negative, but is {index}.")
    port = settings.metrics_port + index if settings.metrics_port else 0
    if port > 65535:
        raise SettingsError(f"HEADRACE_METRICS_PORT ({settings.metrics_port}) plus index {index} is not a port.")
    precision = settings.precision or table.precision
    max_batch = settings.max_batch or table.max_batch
    effective = msgspec.structs.replace(
        table,
        precision=precision,
        runtime=settings.runtime or table.runtime,
        max_batch=max_batch,
        window_ms=window_ms,
        batch_policy=policy,
    )
    return ConsumerConfig(
        model_name=model_name,
        model=effective,
        # A model may change the working directory.
        settings=replace(settings, data_dir=str(Path(settings.data_dir).absolute())),
        worker=worker_name(),
        precision=precision,
        max_batch=max_batch,
        window_ms=window_ms,
        policy=policy,
        metrics_port=port,
        index=index,
        cache=caching(settings, table),
    )
