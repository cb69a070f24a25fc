"""A model with a life: it starts processes and threads as libraries do, and notes what happens to it in a file.

``options["folder"]`` is where ``events`` is written: a word for each event, and the thread or process it happened in.
``options["load"]`` and ``options["close"]`` say how it misbehaves there.
"""

from __future__ import annotations

import argparse
import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from consumer.models.base import Description, Model, Result
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor

SPEC = (TensorSpec("input", "UINT8", (-1,)),)
OUTPUT = (TensorSpec("output", "UINT8", (-1,)),)


class PanicException(BaseException):
    """As extensions in Rust raise it: no ``Exception``."""


def serve_for_ever() -> None:
    """What a helper process does."""
    while True:
        time.sleep(60)


class Lively(Model):
    """Gives back what it is sent."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._folder = Path(options["folder"])
        self._load, self._close = options.get("load", ""), options.get("close", "")

    def _note(self, event: str, where: int | None = None) -> None:
        with (self._folder / "events").open("a") as file:
            file.write(f"{event} {threading.get_native_id() if where is None else where}\n")

    def load(self, device: str, precision: str) -> None:
        """Start helpers, then do as told."""
        self._note("load")
        if self._load == "helpers" or self._load == "half-way":
            atexit.register(self._note, "atexit")
            fork = multiprocessing.get_context("fork")
            for daemon in (True, False):
                helper = fork.Process(target=serve_for_ever, daemon=daemon)
                helper.start()
                self._note("helper", helper.pid)
            self._note("helper", subprocess.Popen(["sleep", "600"]).pid)
        if self._load == "half-way":
            raise RuntimeError("The second half is missing.")
        if self._load == "exit":
            argparse.ArgumentParser(prog="a-library").parse_args(["--no-such-option"])
        if self._load == "signals":
            signal.signal(signal.SIGTERM, lambda *_: None)
        if self._load == "panic":
            raise PanicException("called `Option::unwrap()` on a `None` value")
        if self._load == "memory":
            raise MemoryError
        if self._load == "refuse":
            raise ValueError("this model needs a Tuesday.")
        if self._load == "hang":
            self._note("hangs", os.getpid())
            threading.Event().wait()

    def describe(self) -> Description:
        """Bytes in, bytes out."""
        return Description(SPEC, OUTPUT)

    def preprocess(self, request: Request) -> Sequence[Any]:
        """One row per request."""
        return [request.inputs[0].data if request.inputs else request.body]

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Give the rows back."""
        self._note("run")
        return rows

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """The bytes again."""
        return Result(outputs=[Tensor("output", "UINT8", (1, len(outputs[0])), outputs[0])])

    def sample_rows(self, count: int) -> Sequence[Any]:
        """Short rows."""
        return [b"sample"] * count

    def close(self) -> None:
        """Note it, then do as told."""
        self._note("close")
        if self._close == "raise":
            raise RuntimeError("There is nothing to close.")
        if self._close == "exit":
            sys.exit(3)
        if self._close == "hang":
            threading.Event().wait()


def create(options: dict[str, Any]) -> Model:
    """Make one; ``create`` itself can misbehave, too."""
    if options.get("load") == "factory":
        sys.exit("no licence")
    return Lively(options)
