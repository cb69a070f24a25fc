"""LitServe: `python tests/perf/peers/litserve_server.py echo|model WORKERS PORT`."""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import litserve
from fastapi import Body, Response

Raw = Annotated[bytes, Body(media_type="application/octet-stream")]


class Echo(litserve.LitAPI):  # type: ignore[misc]
    """Gives back the bytes it was sent."""

    def setup(self, device: str) -> None:
        """Nothing to load."""

    def decode_request(self, request: Raw) -> bytes:
        """Take the body as it is, without JSON."""
        return request

    def batch(self, inputs: Sequence[bytes]) -> Sequence[bytes]:
        """Keep a list: these are no arrays."""
        return inputs

    def predict(self, x: Sequence[bytes]) -> Sequence[bytes]:
        """Do nothing."""
        return x

    def unbatch(self, output: Sequence[bytes]) -> Sequence[bytes]:
        """One answer for each."""
        return output

    def encode_response(self, output: bytes) -> Response:
        """Send bytes as they are."""
        return Response(output, media_type="application/octet-stream")


class Model(litserve.LitAPI):  # type: ignore[misc]
    """The network, in batches; JSON out."""

    def setup(self, device: str) -> None:
        """Load the network."""
        from plain import Plain  # type: ignore[import-not-found]

        self.plain = Plain()

    def decode_request(self, request: Raw) -> bytes:
        """Take the body as it is, without JSON."""
        return request

    def batch(self, inputs: Sequence[bytes]) -> Sequence[bytes]:
        """Keep a list: the network's own code makes the tensor."""
        return inputs

    def predict(self, x: Sequence[bytes]) -> list[list[dict[str, Any]]]:
        """Run a batch."""
        return self.plain.classify(x)  # type: ignore[no-any-return]

    def unbatch(self, output: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
        """One answer for each."""
        return output

    def encode_response(self, output: list[dict[str, Any]]) -> dict[str, Any]:
        """Name the list."""
        return {"predictions": output}


if __name__ == "__main__":
    kind, workers, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    api = (
        Echo(max_batch_size=32, batch_timeout=0.001)
        if kind == "echo"
        else Model(max_batch_size=32, batch_timeout=0.005)
    )
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers, fast_queue=True)
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)
