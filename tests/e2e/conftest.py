"""What several end-to-end tests share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from producer_api.http.server import Tls
from shared.redis.embedded import ServerConfig, free_port
from tests.embedded import EmbeddedServer


@pytest.fixture(scope="module", params=["plain", "tls"])
def tls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tls | None:
    """Once without TLS, and once with a certificate for this machine."""
    from tests.e2e.producer_api.test_tls import certificate

    if request.param == "plain":
        return None
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    cert, key = certificate(tmp_path_factory.mktemp("tls"), "front-end")
    return Tls(str(cert), str(key))


@pytest.fixture(scope="module")
def own_server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that no other module uses: what a console shows first, and its health, depend on all models there."""
    with EmbeddedServer(ServerConfig(tmp_path_factory.mktemp("valkey"), free_port(), appendonly="no")) as server:
        yield server.url
