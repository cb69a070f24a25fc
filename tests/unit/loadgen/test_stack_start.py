"""What goes wrong around a stack gets the right sentence; the stack is a process that only prints the banner."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadgen.comparing.stack import running_stack
from loadgen.errors import LoadgenError

BANNER = """\
import os, pathlib, signal
{more}
print("  API        http://127.0.0.1:9")
print("             http://127.0.0.1:9/metrics (consumer m)")
print("Ctrl-C stops everything.", flush=True)
signal.pause()
"""


def checkout(folder: Path, more: str = "") -> Path:
    """Make a checkout whose stack is ready at once."""
    package = folder / "checkout" / "headrace"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(BANNER.format(more=more))
    return package.parent


def test_a_fault_of_the_measurement_is_not_the_stacks(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), running_stack(checkout(tmp_path), "m", {}, tmp_path / "log") as stack:
        raise BrokenPipeError(32, stack.url)


def test_what_cannot_be_copied_is_named(tmp_path: Path) -> None:
    dangling = 'pathlib.Path(os.environ["HEADRACE_DATA_DIR"], "found").symlink_to("nothing")'
    with (
        pytest.raises(LoadgenError, match=r"cannot be started: .*No such file or directory.*\.$"),
        running_stack(checkout(tmp_path, dangling), "m", {}, tmp_path / "log", tmp_path / "notes"),
    ):
        raise AssertionError("it has no notes")


@pytest.mark.parametrize("missing", ["checkout", "log"])
def test_what_the_start_needs_and_is_not_there(tmp_path: Path, missing: str) -> None:
    folder = checkout(tmp_path) if missing == "log" else tmp_path / "nothing"
    log = tmp_path / ("nothing/log" if missing == "log" else "log")
    with (
        pytest.raises(LoadgenError, match="cannot be started: No such file or directory"),
        running_stack(folder, "m", {}, log),
    ):
        raise AssertionError("it cannot run")
