"""One stack for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tritonclient.grpc import InferenceServerClient

from .site import COLOURS, ECHO, GATE, MIXED, Site, connected, site


@pytest.fixture(scope="package")
def served(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The models of these tests and a front end."""
    with site(valkey_url, tmp_path_factory.mktemp("grpc"), ECHO, MIXED, GATE, COLOURS) as running:
        running.wait(ECHO)
        yield running


@pytest.fixture
def client(served: Site) -> Iterator[InferenceServerClient]:
    """A stock client."""
    with connected(served) as one:
        yield one
