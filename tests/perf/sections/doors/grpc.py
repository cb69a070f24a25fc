"""The Open Inference Protocol over gRPC beside REST: the same pictures to the same consumers, in turns."""

from __future__ import annotations

import re
import shutil
import struct
import urllib.request
from pathlib import Path

from tests.perf import h2load, processes
from tests.perf.context import Bench, Found, Skipped
from tests.perf.load import run, told
from tests.perf.report.figures import Figure
from tests.perf.report.maths import ratios
from tests.perf.stack import AS_CHOSEN, ON_EVERY_CORE, BenchError, Stack
from tests.perf.windows import Window

MODEL = "bench-mobilenet"
UNDER_WAY = 48
CONNECTIONS = 8
SPARE_S = 30.0


def measure(bench: Bench) -> Found:
    """Keep as many requests under way over both, and compare the rates."""
    executable = shutil.which("h2load")
    if executable is None:
        raise Skipped("h2load is not on the PATH; install it (apt install nghttp2-client).")
    try:
        framed = _framed(bench)
    except ImportError:
        raise Skipped("protobuf is not installed; it is in the dependency group grpc.") from None
    settings = {**bench.settings, **ON_EVERY_CORE, **AS_CHOSEN, "HEADRACE_GRPC_PORT": "0"}
    payload = bench.pixels(MODEL)
    rest: list[Window] = []
    grpc: list[Window] = []
    used_us: dict[str, list[float]] = {"REST": [], "gRPC": []}
    with Stack((MODEL,), settings, bench.found) as stack:
        seconds, count, pid = bench.either(4.0, 2.0), bench.either(4, 2), stack.pids["front end"]
        target = stack.grpc_target()
        bench.generator.closed(stack.url, payload, UNDER_WAY, 1.0)
        for number in bench.rounds(count, MODEL, 100.0):
            rest.append(bench.generator.closed(stack.url, payload, UNDER_WAY, seconds, {"front end": pid}))
            used_us["REST"].append(rest[-1].cpu_us["front end"])
            bench.say(f"round {number} of {count}: REST: {told(rest[-1])}")
            before_s, ended = processes.cpu_s(pid), _succeeded(stack)
            argv = h2load.argv(executable, target, framed, CONNECTIONS, UNDER_WAY // CONNECTIONS, seconds)
            grpc.append(h2load.parse(run(argv, seconds + SPARE_S)))
            used_us["gRPC"].append((processes.cpu_s(pid) - before_s) * 1e6 / grpc[-1].requests)
            if _succeeded(stack) - ended < grpc[-1].requests:
                raise BenchError("Some calls over gRPC had no answer.")
            bench.say(f"round {number} of {count}: gRPC: {told(grpc[-1])}")
    over_rest, over_grpc = [w.rate_per_s for w in rest], [w.rate_per_s for w in grpc]
    streams = UNDER_WAY // CONNECTIONS
    command = f"`h2load -c {CONNECTIONS} -m {streams} -t 1 -d MESSAGE http://HOST:PORT{h2load.PATH}`"
    better = {"higher_is_better": True}
    figures = [
        Figure(what=f"`{MODEL}`, raw pixels, REST, {UNDER_WAY} connections: images", unit="per_s", values=over_rest,
               command=bench.generator.command(payload, UNDER_WAY), **better),
        Figure(what=f"… gRPC, {CONNECTIONS} connections with {streams} calls each", unit="per_s", values=over_grpc,
               command=command, **better),
        Figure(what="… gRPC over REST", unit="percent", values=ratios(over_grpc, over_rest), command="both, in turns",
               limit=0.85, **better),
        *(Figure(what=f"processor time of the front end for each request, {name}", unit="us", values=values,
                 command="during these") for name, values in used_us.items()),
    ]  # fmt: skip
    return Found(figures=figures, settings=settings)


def _framed(bench: Bench) -> Path:
    """Write the picture as a message of gRPC, with the mark and the length in front of it."""
    from producer_api.grpc.schema import message_class

    [file] = bench.pixels(MODEL).files
    made = message_class("ModelInferRequest")(model_name=MODEL, raw_input_contents=[file.read_bytes()])
    made.inputs.add(name="input", datatype="UINT8", shape=[1, 224, 224, 3])
    message: bytes = made.SerializeToString()
    path = bench.folder / "pixels.grpc"
    path.write_bytes(b"\0" + struct.pack(">I", len(message)) + message)
    return path


def _succeeded(stack: Stack) -> float:
    """Return how many requests the front end has answered."""
    with urllib.request.urlopen(f"{stack.url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.search(rf'^headrace_requests_total{{model="{MODEL}",outcome="ok"}} (\S+)$', text, re.MULTILINE)
    return 0.0 if found is None else float(found[1])
