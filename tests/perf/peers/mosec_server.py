"""mosec: `python tests/perf/peers/mosec_server.py echo|model WORKERS --address 127.0.0.1 --port N`."""

from __future__ import annotations

import sys
from typing import Any

from mosec import Server, Worker


class Echo(Worker):  # type: ignore[misc]
    """Gives back the bytes it was sent."""

    def deserialize(self, data: bytes) -> bytes:
        """Take the body as it is."""
        return data

    def serialize(self, data: bytes) -> bytes:
        """Send bytes as they are."""
        return data

    def forward(self, data: list[bytes]) -> list[bytes]:
        """Do nothing."""
        return data


class Model(Worker):  # type: ignore[misc]
    """The network, in batches; JSON out, which is mosec's own default."""

    def __init__(self) -> None:
        super().__init__()
        from plain import Plain  # type: ignore[import-not-found]

        self.plain = Plain()

    def deserialize(self, data: bytes) -> bytes:
        """Take the body as it is."""
        return data

    def forward(self, data: list[bytes]) -> list[list[dict[str, Any]]]:
        """Run a batch."""
        return self.plain.classify(data)  # type: ignore[no-any-return]


if __name__ == "__main__":
    server = Server()
    if sys.argv[1] == "echo":
        server.append_worker(Echo, num=int(sys.argv[2]), max_batch_size=32, max_wait_time=1)
    else:
        server.append_worker(Model, num=int(sys.argv[2]), max_batch_size=32, max_wait_time=5)
    server.run()
