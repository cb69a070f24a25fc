"""What is checked before anything is started, each failure one clear sentence."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from shared import model_config, redis_url
from shared.model_config import ModelConfig
from shared.redis.embedded import free_port
from shared.settings import Settings, SettingsError

from . import private_folder

_CONNECT_LIMIT_S = 3.0
_OLDEST_REDIS = 7  # the first with functions; Valkey reports a compatible redis_version, 7.2 or newer


def chosen_models(settings: Settings) -> dict[str, ModelConfig]:
    """Return the tables of the models in ``HEADRACE_MODELS``, in that order.

    Raises:
        SettingsError: the models file is not usable or lacks one of them.
    """
    models = model_config.load(settings.models_file)
    return {name: model_config.pick(models, name, settings.models_file) for name in settings.models}


def check_port(setting: str, host: str, port: int) -> None:
    """Check that a server can listen on ``host``:``port``.

    Raises:
        SettingsError: it cannot; the sentence names ``setting``.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            # A port whose last connections are still closing counts as free, as it does for the servers.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            why = "is in use by another process; stop it or choose another port"
        else:
            why = f"cannot be opened ({error.strerror or error})"
        raise SettingsError(f"{setting}: port {port} on {host} {why}.") from None


def check_redis(url: str) -> None:
    """Check that a Redis which is new enough and lets us in answers at ``HEADRACE_REDIS_URL``; no password is shown.

    Raises:
        SettingsError: nothing listens there, or what does is not such a server.
    """
    if redis_url.is_sentinel(url):
        _check_server(url, f"what the Sentinels of {redis_url.shown(url)} name")
        return
    parts = urlsplit(url)
    where = parts.path if parts.scheme == "unix" else f"{parts.hostname or 'localhost'}:{_port_of(url)}"
    try:
        if parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_CONNECT_LIMIT_S)
                connection.connect(parts.path)
        else:
            socket.create_connection((parts.hostname or "localhost", _port_of(url)), _CONNECT_LIMIT_S).close()
    except OSError as error:
        raise SettingsError(f"HEADRACE_REDIS_URL: no Redis at {where} ({error.strerror or error}).") from None
    _check_server(url, f"the server at {where}")


def _check_server(url: str, where: str) -> None:
    """Connect as the processes will. Accept what passes by itself, such as a server that still loads its data."""
    # Imported here: with the embedded server nothing in this process needs a client.
    from shared.redis.advice import CLUSTER, REPLICA, told_of_door
    from shared.redis.client import RedisError, ServerError, connect

    version = ""
    try:
        with connect(url, _CONNECT_LIMIT_S) as client:
            client.ping()
            try:
                said = client.info("server", "cluster", "replication")
            except ServerError:
                return  # a user without the right to ask for it
            version = str(said.get("redis_version", ""))
            if said.get("cluster_enabled") == 1:
                raise SettingsError(f"HEADRACE_REDIS_URL: {where} cannot be used: {CLUSTER}.")
            if said.get("role") == "slave":
                raise SettingsError(f"HEADRACE_REDIS_URL: {where} cannot be used: {REPLICA}.")
    except RedisError as error:
        if "loading" not in str(error).lower():
            why = told_of_door(error, is_tls=url.startswith("rediss"))
            raise SettingsError(f"HEADRACE_REDIS_URL: {where} does not let us in ({why}).") from None
    major = version.partition(".")[0]
    if major.isdecimal() and int(major) < _OLDEST_REDIS:
        raise SettingsError(
            f"HEADRACE_REDIS_URL: {where} has version {version}; use Redis 7, Valkey 8, or a newer one."
        )


def _port_of(url: str) -> int:
    try:
        return urlsplit(url).port or 6379
    except ValueError:
        raise SettingsError("HEADRACE_REDIS_URL: the port is not a number between 0 and 65535.") from None


def free_ports(setting: str, host: str, count: int) -> int:
    """Return the first of ``count`` consecutive ports that are free at this moment.

    Raises:
        SettingsError: there are none; the sentence names ``setting``.
    """
    for _ in range(20):
        try:
            first = free_port(host)
        except OSError as error:
            raise SettingsError(f"{setting}: no port on {host} can be opened ({error.strerror or error}).") from None
        try:
            for port in range(first + 1, first + count):
                check_port(setting, host, port)
        except SettingsError:
            continue
        return first
    raise SettingsError(f"{setting}: no {count} consecutive free ports on {host} were found.")


@contextmanager
def data_dir_lock(data_dir: Path) -> Iterator[None]:
    """Hold the data folder for one stack; the lock goes with the process, however it ends.

    Raises:
        SettingsError: another stack holds it, or the folder cannot be made.
    """
    try:
        private_folder.make(data_dir)
        # Opened without truncating: the file names the process that holds it.
        descriptor = os.open(data_dir / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, private_folder.FILE_MODE)
    except OSError as error:
        raise SettingsError(f"HEADRACE_DATA_DIR: {data_dir} cannot be used ({error.strerror or error}).") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise SettingsError(
                f"HEADRACE_DATA_DIR: {data_dir} is in use by another `headrace up` (process {owner}); stop it or "
                "choose another folder."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
