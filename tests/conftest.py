"""Real servers for the tests, one of each kind per test process, and a namespace of its own for every test."""

from __future__ import annotations

import gc
import logging
import os
import secrets
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from shared.process import logs
from shared.redis.embedded import ServerConfig, free_port
from tests.children import ask_ourselves_directly, keep_what_is_compiled
from tests.embedded import EmbeddedServer, keys_without_limit

ask_ourselves_directly()
keep_what_is_compiled()

REDIS_IMAGE = "redis:7-bookworm"

_servers: set[str] = set()
_tests: dict[str, str] = {}
"""Which test a model's name was made for."""


class Folder(pytest.Package):
    """A folder of tests without ``__init__.py``.

    For pytest only a package ends fixtures of scope ``package``: without this, the servers of each folder would stay
    up to the end of the session.
    """

    def setup(self) -> None:
        """Import no ``__init__.py``."""


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector:
    """Make every folder of tests a package."""
    folder: Folder = Folder.from_parent(parent, path=path)
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what asks for a server."""
    servers = {"valkey_url", "redis7_url", "redis_url"}
    for item in items:
        if not servers.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("server")


def pytest_collection_finish() -> None:
    """Leave what is there by now out of every later collection of garbage.

    Thousands of tests and the modules that they import live to the end; to look through them takes 0.4 s, and a
    consumer that switches its model collects twice.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def handlers_that_can_write() -> Iterator[None]:
    """Take away the log handlers of tests that have ended: their streams are closed, and each record would say so."""
    for handler in logging.root.handlers[:]:
        if getattr(getattr(handler, "stream", None), "closed", False):
            logging.root.removeHandler(handler)
            if logs._handler is handler:
                logs._handler = None
    before = logging.root.handlers[:]
    yield
    logging.root.handlers[:] = before


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded Valkey."""
    folder = tmp_path_factory.mktemp("valkey")
    with EmbeddedServer(ServerConfig(folder, free_port(), appendonly="no", maxmemory_mb=512)) as server:
        _servers.add(server.url)
        yield server.url
    _servers.discard(server.url)


@cache
def why_no_docker() -> str:
    """Why the Docker engine cannot be used; empty if it can."""
    import docker

    why = ""
    try:
        docker.from_env().ping()
    except Exception as error:
        why = str(error)
    if why:
        with warnings.catch_warnings():  # it leaves a socket open, which would fail whatever test runs when it is found
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
    return why


@pytest.fixture(scope="session")
def redis7_url() -> Iterator[str]:
    """A Redis 7 in a container; skipped where no Docker engine runs, unless HEADRACE_TEST_COMPOSE=1 says it must."""
    # The reaper image is one more to pull; the fixture removes its container itself.
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    pytest.importorskip("docker")
    if why := why_no_docker():
        if os.environ.get("HEADRACE_TEST_COMPOSE") == "1":
            pytest.fail(why)
        pytest.skip(f"no Docker engine: {why}")
    from testcontainers.community.redis import RedisContainer

    with RedisContainer(REDIS_IMAGE) as container:
        url = f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"
        _servers.add(url)
        yield url
    _servers.discard(url)


@pytest.fixture(params=["valkey", "redis7"])
def redis_url(request: pytest.FixtureRequest) -> str:
    """Each real server in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def model_name(request: pytest.FixtureRequest) -> str:
    """A model name nobody else uses: all keys of a model carry it, so tests do not meet."""
    name = f"test-{secrets.token_hex(8)}"
    _tests[name] = request.node.nodeid
    return name


@pytest.fixture(scope="module", autouse=True)
def every_key_has_a_time_limit() -> Iterator[None]:
    """What the tests of a module leave on the servers must go by itself, or Redis fills up."""
    yield
    names = dict(_tests)
    _tests.clear()
    leaks = [(names[name], key) for url in _servers if names for name, key in keys_without_limit(url) if name in names]
    assert not leaks
