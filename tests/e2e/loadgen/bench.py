"""A folder to run the load generator's commands in, as its users do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

from tests.children import ROOT


def schema(name: str) -> Any:
    """Return a published schema."""
    return json.loads((ROOT / "loadgen" / "results" / f"{name}.schema.json").read_text())


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


@dataclass(frozen=True)
class Bench:
    """A folder with a payload and budgets."""

    folder: Path

    @property
    def result(self) -> Path:
        return self.folder / "out" / "run.json"

    def command(self, *arguments: str, program: str = "loadgen") -> list[str]:
        return [sys.executable, "-W", "error", "-m", program, *arguments]

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
        return {**kept, "PYTHONPATH": str(ROOT), **more}

    def prove(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run one of the commands that try the gate and the generator themselves."""
        return self.run(*arguments, program="tests.proof", **more)

    def run(
        self, *arguments: str, timeout: float = 30, program: str = "loadgen", **more: Any
    ) -> subprocess.CompletedProcess[str]:
        environment = self.environment(**more.pop("environment", {}))
        return subprocess.run(
            self.command(*arguments, program=program),
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            **more,
        )

    def load(self, port: int, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a short load; arguments override the shown ones."""
        return self.run(*self.load_arguments(port), *arguments, **more)

    def run_budgets(self, port: int) -> subprocess.CompletedProcess[str]:
        """Run the load that the budgets of the model ``null`` are for."""
        url = f"http://127.0.0.1:{port}"
        return self.run("run", "--url", url, "--model", "null", "--budgets", "budgets.toml", "--out", "out")

    def load_arguments(self, port: int) -> list[str]:
        return [
            "run", "--url", f"http://127.0.0.1:{port}", "--model", "null", "--payload", "photo.jpg", "--rate", "400",
            "--duration", "250ms", "--warmup", "50ms", "--seed", "5", "--out", "out",
        ]  # fmt: skip

    def gate(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.run("gate", "--budgets", "budgets.toml", "--run", "out/run.json", *arguments, **more)

    def written(self, name: str = "run") -> dict[str, Any]:
        """Return a result, held against its schema as strict JSON."""
        text = (self.folder / "out" / f"{name}.json").read_text()
        value: dict[str, Any] = json.loads(text, parse_constant=refuse)
        jsonschema.Draft202012Validator(schema(name)).validate(value)
        return value


def make_bench(folder: Path, budgets: str) -> Bench:
    """Return a bench in an empty folder."""
    (folder / "photo.jpg").write_bytes(b"not really a photo")
    (folder / "budgets.toml").write_text(budgets)
    return Bench(folder)


def only_sentence(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that an error is allowed to print."""
    (line,) = done.stderr.splitlines()
    return line
