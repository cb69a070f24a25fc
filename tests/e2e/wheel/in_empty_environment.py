"""Installs a wheel or an sdist into an empty environment of this Python, and lets it serve from an empty folder.

    python3.14 tests/e2e/wheel/in_empty_environment.py dist/headrace-*.whl

Needs Python and its package index only, so that any Python can run it. TORCH_INDEX_URL: where PyTorch comes from.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import venv
from pathlib import Path
from typing import IO, Any

FEWER_THAN = 12
"""Distributions of an installation without extras, its own included."""

READY_S = 300.0
WARNINGS = "error::DeprecationWarning,ignore::DeprecationWarning:redis.asyncio.connection"
"""What Python will soon refuse is refused at once, in our processes and those that they start. redis-py itself calls
``asyncio.iscoroutinefunction``, which goes with Python 3.16."""

OWN_MODEL = """
from headrace.model import TextModel


class Lengths(TextModel):
    size = 1

    def load(self, device, precision):
        pass

    def compute(self, texts):
        return [[len(text)] for text in texts]
"""
QUICK = "import sys, headrace.__main__; sys.exit('torch' in sys.modules or 'starlette' in sys.modules)"
NAMES = "import importlib.metadata as m; print(*{d.name.lower() for d in m.distributions()} - {'pip', 'setuptools'})"


class Environment:
    """A virtual environment, and an empty folder beside it."""

    def __init__(self, folder: Path, constraints: Path | None) -> None:
        venv.create(folder / "venv", with_pip=True)
        self.bin = folder / "venv" / "bin"
        self.work = folder / "work"
        self.work.mkdir()
        self.constraints = ["-c", str(constraints.resolve())] if constraints else []
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "PYTHON"))}
        self.environment = {**kept, "PYTHONWARNINGS": WARNINGS, "PYTHONUNBUFFERED": "1"}

    def install(self, *what: str) -> None:
        """Install packages with what they depend on."""
        environment = {**self.environment, "PYTHONWARNINGS": ""}
        argv = [str(self.bin / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*argv, *self.constraints, *what], cwd=self.work, env=environment, check=True)

    def run(self, *argv: str) -> str:
        """Run a program of the environment; fails unless it ends well."""
        command = [str(self.bin / argv[0]), *argv[1:]]
        done = subprocess.run(command, cwd=self.work, env=self.environment, check=True, stdout=subprocess.PIPE)
        return done.stdout.decode()

    def new_project(self) -> str:
        """Write a project, and type the steps that are printed, up to the one that serves it; what they say."""
        _, _, steps = self.run("headrace", "new", "my-model").partition("ask it:\n")
        before, serves, _ = steps.partition("  headrace up")
        assert serves, steps
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        environment = {**self.environment, "PYTHONWARNINGS": "", "PATH": path}
        done = subprocess.run(["sh", "-ec", before], cwd=self.work, env=environment, check=True, stdout=subprocess.PIPE)
        return done.stdout.decode()

    def serve(self, model: str, body: bytes | None, *arguments: str) -> Any:
        """Start a stack, send it one request, stop it; without a body, the photograph that it names itself."""
        settings = {"HEADRACE_TUNE": "off", "HEADRACE_CONSUMERS": "1"}
        if not arguments:
            settings["HEADRACE_MODELS"] = model
        settings |= dict.fromkeys(("HEADRACE_PORT", "HEADRACE_REDIS_PORT", "HEADRACE_METRICS_PORT"), "0")
        process = subprocess.Popen(
            [str(self.bin / "headrace"), "up", *arguments],
            cwd=self.work,
            env={**self.environment, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        try:
            lines = _until(process.stdout, r"Ctrl-C stops everything")
            [url] = set(re.findall(r"http://127\.0\.0\.1:\d+(?=/docs)", "\n".join(lines)))
            if body is None:
                [line] = [line for line in lines if line.startswith("  curl ") and f"/{model}/" in line]
                body = Path(line.partition("--data-binary @")[2].split()[0]).read_bytes()
            content_type = "text/plain" if arguments else "application/octet-stream"
            answer = _answer(f"{url}/v1/models/{model}/predict", body, content_type)
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(60)
        assert code == 0, f"`headrace up` ended with {code}."
        return answer


def _until(stream: IO[str], pattern: str) -> list[str]:
    """Return the lines of a stream up to the one that has the pattern."""
    arriving: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in stream:
            arriving.put(line.rstrip())
        arriving.put("")

    threading.Thread(target=read, daemon=True).start()
    lines: list[str] = []
    end_s = time.monotonic() + READY_S
    while not (lines and re.search(pattern, lines[-1])):
        try:
            lines.append(arriving.get(timeout=max(0.0, end_s - time.monotonic())))
        except queue.Empty:
            sys.exit("\n".join([*lines, f"`headrace up` was not ready within {READY_S:g} s."]))
        print(lines[-1])
    return lines


def _answer(url: str, body: bytes, content_type: str) -> Any:
    request = urllib.request.Request(url, body, {"Content-Type": content_type})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answered:
        return json.load(answered)


def check(dist: Path, folder: Path, constraints: Path | None, photograph: bool) -> None:
    """Install ``dist`` step by step, and use what each of them brings."""
    found = Environment(folder, constraints)
    found.install(str(dist))
    names = found.run("python", "-c", NAMES).split()
    assert len(names) < FEWER_THAN, names
    assert "headrace" in names
    found.run("python", "-c", QUICK)
    assert "up" in found.run("headrace", "--help")
    print(f"Without extras: {len(names)} distributions.")
    found.install(f"headrace[api,embedded] @ {dist.resolve().as_uri()}")
    answer = found.serve("echo", b"twelve bytes")
    assert bytes(answer["outputs"][0]["data"]) == b"twelve bytes", answer
    print("echo answered.")
    found.install(f"headrace[consumer] @ {dist.resolve().as_uri()}")
    (found.work / "my_model.py").write_text(OWN_MODEL)
    answer = found.serve("lengths", b"twelve bytes", "--model", "my_model.py:Lengths")
    assert answer["outputs"][0]["data"] == [12.0], answer
    print("A model of one's own answered.")
    said = found.new_project()
    assert "3 passed" in said, said
    print("The tests of a new project pass.")
    if photograph:
        if index := os.environ.get("TORCH_INDEX_URL"):
            found.install("--index-url", index, "torch", "torchvision")
        found.install(f"headrace[all] @ {dist.resolve().as_uri()}")
        best = found.serve("imagenet", None)["predictions"][0]
        assert best["label"] == "Egyptian cat", best
        print(f"imagenet answered: {best}")


def main() -> None:
    """Read the command line and check one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", type=Path, help="wheel or sdist")
    parser.add_argument("--constraints", type=Path, help="pins, such as constraints.txt")
    parser.add_argument(
        "--photograph", action="store_true", help="also install [all], with PyTorch, and send a picture"
    )
    arguments = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, {arguments.dist.name}")
    with tempfile.TemporaryDirectory() as folder:
        check(arguments.dist, Path(folder), arguments.constraints, arguments.photograph)


if __name__ == "__main__":
    main()
