"""One stack for the commands that ask it, started as people start it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.children import ROOT, clean_environment
from tests.helpers import eventually
from tests.unit.headrace.stacks import Running, own_stack

HEADRACE = [sys.executable, "-m", "headrace"]


@dataclass(frozen=True, slots=True)
class Place:
    """A running stack: where it listens, and its Redis."""

    url: str
    redis: str

    def run(self, *arguments: str, stdin: bytes | None = None, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ``headrace`` beside it."""
        done = subprocess.run(
            [*HEADRACE, *arguments],
            cwd=ROOT,
            env=clean_environment(**settings),
            input=b"" if stdin is None else stdin,
            capture_output=True,
            timeout=50,
            check=False,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A stack that serves ``echo`` and a classifier of pictures."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "models.toml").write_text(
        '[models.echo]\nfamily = "echo"\n\n[models.colour]\nfamily = "python"\n'
        'entry = "examples.custom_model:create"\noptions = { places = 2 }\n'
    )
    settings = own_stack(folder, "nobody")
    ready = folder / "ready"
    up = [*HEADRACE, "up", "--models", "echo,colour", "--port", "0", "--ready-file", str(ready)]
    with Running(up, settings) as stack:
        redis = stack.until(r"(redis://\S+)")[1]
        stack.until("Ctrl-C stops everything")
        eventually(ready.exists)
        yield Place(ready.read_text().strip(), redis)
        stack.process.terminate()
        assert stack.end() == 0
        assert not ready.exists()
