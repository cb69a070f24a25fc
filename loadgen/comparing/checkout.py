"""[I/O] The checkouts that are compared: a folder as it is, or a commit in a git worktree of its own."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadgen.errors import EXIT_USAGE, LoadgenError

PREFIX = "git:"
MODELS = "models.toml"
"""What makes a folder one that a stack can be started in, where Headrace is installed and not checked out."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder to start a stack from, and how to speak of it."""

    folder: Path
    described: str


@contextmanager
def open_checkout(source: str) -> Iterator[Checkout]:
    """Give the folder, or for `git:REVISION` a worktree that is removed when the block ends.

    Raises:
        LoadgenError: usage, when there is no such folder or revision.
    """
    if not source.startswith(PREFIX):
        folder = Path(source)
        if not (folder / "headrace").is_dir() and not (folder / MODELS).is_file():
            sentence = f"{source} is neither an address nor a checkout of Headrace, nor a folder with a {MODELS}."
            raise LoadgenError(sentence, EXIT_USAGE)
        yield Checkout(folder, f"the checkout {folder}")
        return
    revision = source.removeprefix(PREFIX)
    commit = git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if commit is None or revision.startswith("-"):
        raise LoadgenError(
            f"There is no commit {revision!r} here; a shallow clone lacks it (git fetch --unshallow).", EXIT_USAGE
        )
    with tempfile.TemporaryDirectory(prefix="headrace-base-") as parent:
        folder = Path(parent) / "checkout"
        try:
            if git("worktree", "add", "--detach", "--quiet", str(folder), commit) is None:
                raise LoadgenError(f"git could not make a worktree of {revision}.")
            yield Checkout(folder, f"commit {commit[:12]} in a worktree")
        finally:
            git("worktree", "remove", "--force", str(folder))


def git(*arguments: str) -> str | None:
    """Return what git prints, or None when it fails or is not there."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
