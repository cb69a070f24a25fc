"""Prints the notes of a release: python deploy/release_notes.py v0.2.0

They are the section of that version in CHANGELOG.md. The tag must be the version in shared/version.py.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class NotReleasable(ValueError):
    """The tag, the version and the changelog do not belong together; the text says why."""


def version_in(source: str) -> str:
    """Return the version that ``shared/version.py`` states.

    Raises:
        NotReleasable: it states none.
    """
    found = re.search(r'^__version__ = "([^"]+)"$', source, re.MULTILINE)
    if found is None:
        raise NotReleasable("shared/version.py has no line __version__ = ....")
    return found[1]


def section(changelog: str, version: str) -> str:
    """Return what a changelog says of a version, without its heading.

    Raises:
        NotReleasable: it has no section of that version with a date, or that section is empty.
    """
    parts = re.split(r"^## ", changelog, flags=re.MULTILINE)
    for part in parts[1:]:
        heading, _, text = part.partition("\n")
        if re.fullmatch(rf"\[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d", heading.strip()):
            if not re.search(r"^- ", text, re.MULTILINE):
                raise NotReleasable(f"CHANGELOG.md lists no change under [{version}].")
            return text.strip() + "\n"
    raise NotReleasable(f"CHANGELOG.md has no section '## [{version}] - YYYY-MM-DD'.")


def notes(tag: str, source: str, changelog: str) -> str:
    """Return the notes of the release with this tag.

    Raises:
        NotReleasable: the tag is not the version, or there are no notes.
    """
    version = version_in(source)
    if tag != f"v{version}":
        raise NotReleasable(f"The tag is {tag}, but shared/version.py says {version}: it must be v{version}.")
    return section(changelog, version)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python deploy/release_notes.py TAG")
    try:
        sys.stdout.write(
            notes(
                sys.argv[1],
                (ROOT / "shared/version.py").read_text(encoding="utf-8"),
                (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
            )
        )
    except NotReleasable as error:
        sys.exit(str(error))
