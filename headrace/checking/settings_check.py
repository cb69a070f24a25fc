"""`headrace config check`: settings and the models file, read as every part reads them [I/O: reads files]."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from shared import api_keys, files
from shared.families import known
from shared.files import FileRefused
from shared.model_config import ModelConfig, load, pick
from shared.net.exposure import check_exposure
from shared.redis_url import shown
from shared.results.opening import check_store
from shared.settings import PREFIX, Settings, SettingsError, check_one, check_window


def problems(environment: Mapping[str, str]) -> list[str]:
    """Return what is wrong, one sentence each; nothing when every part would start with these settings."""
    told = {name: _told(check_one, name, text) for name, text in environment.items()}
    found = [sentence for sentence in told.values() if sentence is not None]
    good = {name: text for name, text in environment.items() if told[name] is None}
    try:
        settings = Settings.from_env(good)
    except SettingsError as error:  # some contradict one another; the files are looked at all the same
        found.append(str(error))
        settings = Settings.from_env(_only(good, "MODELS", "MODELS_FILE", "KEYS_FILE"))
    else:
        found += filter(None, [_told(check, settings) for check in (check_exposure, check_store)])
    found += [*_models(settings), *_keys(settings), *_certificate(settings)]
    return [*dict.fromkeys(found)]


def described(environment: Mapping[str, str]) -> str:
    """Say what was read, where nothing is wrong."""
    settings = Settings.from_env(environment)
    count = sum(name.startswith(PREFIX) for name in environment)
    models = ", ".join(settings.models)
    return f"{count} settings, the models {models} of {settings.models_file}, Redis at {shown(settings.redis_address)}"


def _told(check: Callable[..., object], *arguments: object) -> str | None:
    try:
        check(*arguments)
    except SettingsError as error:
        return str(error)
    return None


def _only(environment: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: text for name, text in environment.items() if name.removeprefix(PREFIX) in names}


def _models(settings: Settings) -> Iterator[str]:
    try:
        tables = load(settings.models_file)
    except SettingsError as error:
        yield str(error)
        return
    for name in settings.models:
        try:
            table = pick(tables, name, settings.models_file)
            check_window(table.window_ms or 0, settings, f"models.{name}.window_ms")
        except SettingsError as error:
            yield str(error)
            continue
        yield from _files(name, table)
    if settings.default_model is not None and settings.default_model not in settings.models:
        there = ", ".join(settings.models)
        yield f"HEADRACE_DEFAULT_MODEL ({settings.default_model}) is none of HEADRACE_MODELS ({there})."


def _files(name: str, table: ModelConfig) -> Iterator[str]:
    """Say which files of a model's table are not there."""
    place, _, _ = (table.entry or "").rpartition(":")
    looked_at = {"entry": place if place.endswith(".py") else ""}
    if table.labels and table.labels != "imagenet-1k":
        looked_at["labels"] = table.labels
    is_named = table.weights in (None, "", "DEFAULT", "random") or (table.weights or "").startswith("package:")
    if known(table.family).needs.get("weights") or not is_named:
        looked_at["weights"] = "" if is_named else table.weights or ""
    looked_at["samples"] = table.samples or ""
    for member, path in looked_at.items():
        if path and not Path(path).exists():
            yield f"models.{name}.{member}: there is no {files.shown(path)}."


def _keys(settings: Settings) -> Iterator[str]:
    if settings.keys_file is None:
        return
    where = files.shown(settings.keys_file)
    try:
        api_keys.parse(files.read_text(settings.keys_file, files.TABLE_BYTES))
    except FileRefused as error:
        yield f"HEADRACE_KEYS_FILE: {where} cannot be read: {error}."
    except ValueError as error:
        yield f"HEADRACE_KEYS_FILE: {where} cannot be used. {error}"


def _certificate(settings: Settings) -> Iterator[str]:
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return
    try:
        for path in (settings.tls_cert_file, settings.tls_key_file):
            files.read(path, files.PEM_BYTES)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            settings.tls_cert_file, settings.tls_key_file, lambda: b""
        )
    except FileRefused as error:
        yield f"HEADRACE_TLS_CERT_FILE, HEADRACE_TLS_KEY_FILE: {files.shown(path)} cannot be read: {error}."
    except OSError as error:  # SSLError is one
        why = getattr(error, "reason", None) or error.strerror or "no such key or certificate"
        yield f"HEADRACE_TLS_CERT_FILE and HEADRACE_TLS_KEY_FILE are no certificate and its key: {why}."
