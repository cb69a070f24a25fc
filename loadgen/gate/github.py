"""[I/O] What a GitHub job shows: annotations and the step summary."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .verdict import Verdict

MOST_ANNOTATIONS = 10
MOST_SUMMARY_BYTES = 1_000_000
"""GitHub refuses a step summary of more than 1,024 kB; text is at most four bytes a character."""


def annotation_lines(verdict: Verdict) -> list[str]:
    """Return GitHub's workflow commands: reasons as errors, warnings as such; ten at most."""
    title = f"Performance gate%3A {verdict.status}"
    errors = [f"::error title={title}::{_escaped(reason)}" for reason in verdict.reasons]
    lines = errors + [f"::warning title=Worth a second look::{_escaped(warning)}" for warning in verdict.warnings]
    if len(lines) > MOST_ANNOTATIONS:
        left = len(lines) - MOST_ANNOTATIONS + 1
        command = "error" if len(errors) >= MOST_ANNOTATIONS else "warning"
        lines = [
            *lines[: MOST_ANNOTATIONS - 1],
            f"::{command} title={title}::{left} further lines are in the step summary.",
        ]
    return lines


def append_summary(path: str | None, markdown: str) -> None:
    """Append to the job's summary; a summary that cannot be written never changes the verdict."""
    if not path:
        click.echo("loadgen: GITHUB_STEP_SUMMARY is not set, so no summary was written.", err=True)
        return
    data = markdown.encode()[:MOST_SUMMARY_BYTES].decode(errors="ignore")
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(data)
    except OSError as error:
        print(f"loadgen: cannot write the summary to {path}: {error.strerror}.", file=sys.stderr)


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
