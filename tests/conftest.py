"""Real servers for the tests, one of each kind per test process, and a namespace of its own for every test."""

from __future__ import annotations

import gc
import os
import secrets
from collections.abc import Iterator

import pytest

from shared.redis.embedded import ServerConfig, free_port
from tests.children import ask_ourselves_directly, keep_what_is_compiled
from tests.embedded import EmbeddedServer

ask_ourselves_directly()
keep_what_is_compiled()

REDIS_IMAGE = "redis:7-bookworm"


def pytest_collection_finish() -> None:
    """Leave what is there by now out of every later collection of garbage.

    Thousands of tests and the modules that they import live to the end; to look through them takes 0.4 s, and a
    consumer that switches its model collects twice.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded Valkey."""
    folder = tmp_path_factory.mktemp("valkey")
    with EmbeddedServer(ServerConfig(folder, free_port(), appendonly="no", maxmemory_mb=512)) as server:
        yield server.url


@pytest.fixture(scope="session")
def redis7_url() -> Iterator[str]:
    """A Redis 7 in a container; skipped where no Docker engine runs, unless HEADRACE_TEST_COMPOSE=1 says it must."""
    # The reaper image is one more to pull; the fixture removes its container itself.
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    docker = pytest.importorskip("docker")
    try:
        docker.from_env().ping()
    except Exception as error:
        if os.environ.get("HEADRACE_TEST_COMPOSE") == "1":
            raise
        pytest.skip(f"no Docker engine: {error}")
    from testcontainers.community.redis import RedisContainer

    with RedisContainer(REDIS_IMAGE) as container:
        yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"


@pytest.fixture(params=["valkey", "redis7"])
def redis_url(request: pytest.FixtureRequest) -> str:
    """Each real server in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def model_name() -> str:
    """A model name nobody else uses: all keys of a model carry it, so tests do not meet."""
    return f"test-{secrets.token_hex(8)}"
