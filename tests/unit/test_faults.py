"""The faults of ``tests/proof`` end with their block."""

from __future__ import annotations

import gc
import socket
import threading
import warnings

from tests.proof import faults


def test_a_proxy_that_ends_closes_what_is_open() -> None:
    """Python would tell of a forgotten connection later, in whatever test runs when it collects its garbage."""
    with socket.create_server(("127.0.0.1", 0)) as service:
        service.settimeout(20)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with faults.delaying_proxy(service.getsockname(), 0.0) as url:
                port = int(url.rpartition(":")[2])
                client = socket.create_connection(("127.0.0.1", port), timeout=20)
                client.sendall(b"a")
                served, _ = service.accept()
                served.settimeout(20)
                assert served.recv(1) == b"a"
                served.sendall(b"b")
                assert client.recv(1) == b"b"
                unserved = socket.create_connection(("127.0.0.1", port), timeout=20)
            gc.collect()
        with client, served, unserved:
            assert client.recv(1) == served.recv(1) == b""
    assert [str(warning.message) for warning in told] == []
    assert "delaying-proxy" not in [thread.name for thread in threading.enumerate()]
