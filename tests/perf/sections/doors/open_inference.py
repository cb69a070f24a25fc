"""Echo over the Open Inference Protocol, in binary, beside our own API: what a stock client's form costs."""

from __future__ import annotations

import json
from typing import Final

from tests.perf.context import Bench, Found
from tests.perf.load import ECHO_BODY, Payload, told
from tests.perf.report.figures import Figure
from tests.perf.report.maths import ratios
from tests.perf.stack import BenchError, Stack
from tests.perf.windows import Window

CONNECTIONS: Final = (32, 128)
LIMIT: Final = 0.85
INFER: Final = "/v2/models/{model}/infer"


def measure(bench: Bench) -> Found:
    """Measure both in turns on one stack."""
    settings = {**bench.settings, "HEADRACE_APPENDONLY": "no"}
    payloads = {"octet-stream": bench.echo(), "binary tensors": _tensors(bench)}
    windows: dict[tuple[str, int], list[Window]] = {}
    with Stack(("echo",), settings) as stack:
        for payload in payloads.values():
            bench.generator.closed(stack.url, payload, CONNECTIONS[0], 1.0)
        count = bench.either(7, 1)
        for number in bench.rounds(count, "Open Inference Protocol", 100.0):
            for connections in CONNECTIONS:
                for name, payload in payloads.items():
                    window = bench.generator.closed(
                        stack.url, payload, connections, bench.either(3.0, 1.0), {"front end": stack.pids["front end"]}
                    )
                    if window.failed:
                        raise BenchError(f"{window.failed} requests in {name} failed.")
                    windows.setdefault((name, connections), []).append(window)
                    bench.say(f"round {number} of {count}: {name}, {connections} connections: {told(window)}")
    found = Found(settings=settings)
    for connections in CONNECTIONS:
        for name, payload in payloads.items():
            rates = [window.rate_per_s for window in windows[name, connections]]
            what = f"echo, {name}, {connections} connections"
            command = bench.generator.command(payload, connections)
            found.figures.append(Figure(what=what, unit="per_s", values=rates, command=command, higher_is_better=True))
        ours, theirs = ([w.rate_per_s for w in windows[name, connections]] for name in payloads)
        found.figures.append(
            Figure(what="… binary tensors over octet-stream", unit="ratio", values=ratios(theirs, ours),
                   command="both, in turns", limit=LIMIT, higher_is_better=True)
        )  # fmt: skip
    for name in payloads:
        values = [window.cpu_us["front end"] for window in windows[name, CONNECTIONS[0]]]
        what = f"processor time of the front end per request, {name}"
        found.figures.append(Figure(what=what, unit="us", values=values, command="the same"))
    return found


def _tensors(bench: Bench) -> Payload:
    """Return the bytes of the echo payload as tritonclient sends them."""
    tensor = {"name": "input", "shape": [1, len(ECHO_BODY)], "datatype": "UINT8"}
    inputs = [{**tensor, "parameters": {"binary_data_size": len(ECHO_BODY)}}]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    path = bench.folder / "echo-tensor.bin"
    path.write_bytes(head + ECHO_BODY)
    return Payload("echo", (path,), path=INFER, headers=(f"Inference-Header-Content-Length:{len(head)}",))
