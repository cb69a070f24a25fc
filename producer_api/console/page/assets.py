"""The files of the console's page, read once when the front end starts, and the headers with which they are served.

All files but the page itself lie below a name made of their content, so that browsers may keep them for good, and never
mix those of two versions. The page is the same for everybody: what it shows it asks for, with the reader's API key.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Content-Security-Policy of the page (https://www.w3.org/TR/CSP3/): no script, style, picture or connection but this
server's. With Trusted Types no script can turn a text into markup, either."""

PAGE_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""The page names the files of its version, so a browser asks whether it still holds."""

KEPT: Final = "public, max-age=31536000, immutable"

TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
"""Kinds of files that are served, by suffix; files of other kinds are not."""

_FILES = Path(__file__).with_name("static")
_PAGES = ("index.html", "welcome.html")
_HASH_CHARACTERS = 16


_COMMENT = re.compile(r"^/\*\*(?s:.*?)\*/\n|^//.*\n|(?<=[;,{}]) // [^'\"`\n]*$", re.MULTILINE)
_JOINED = re.compile(r"(?<=[;,{(\[])\n|\n(?=[)\]}])")
"""Ends of lines where the script says the same without: no statement ends there without its semicolon."""
_PACKED = (".css", ".js", ".svg")


@dataclass(frozen=True, slots=True)
class Asset:
    """A file: its bytes, the same with gzip where that is worth it, and what the browser should take it for."""

    body: bytes
    packed: bytes | None
    media_type: str

    @classmethod
    def read(cls, path: Path) -> Asset:
        """Read it. Our scripts go without comments and indentation; the licence of a library stays in it."""
        body = path.read_bytes()
        if path.parent.name == "js":
            body = lean(body.decode()).encode()
        packed = gzip.compress(body, mtime=0) if path.suffix in _PACKED else None
        return cls(body, packed, TYPES[path.suffix])


def lean(script: str) -> str:
    """Take comments, indentation and most ends of lines out of a script of ours: none of its texts spans lines."""
    lines = "".join(f"{line.strip()}\n" for line in script.splitlines() if line.strip())
    return _JOINED.sub("", _COMMENT.sub("", lines))


class Assets:
    """All of them.

    Args:
        folder: where they lie.

    Attributes:
        version: changes with the content of any file.
        page: the page as HTML, in UTF-8; its links are relative, so that it works below a path of a proxy.
    """

    def __init__(self, folder: Path = _FILES) -> None:
        found = sorted(path for path in folder.rglob("*") if path.suffix in TYPES)
        self._assets: Mapping[str, Asset] = {path.relative_to(folder).as_posix(): Asset.read(path) for path in found}
        templates = {name: (folder / name).read_text(encoding="utf-8") for name in _PAGES}
        self.version = _version(self._assets)
        self.page = self._filled(templates["index.html"], scripts=self._preloads())
        self._welcome = templates["welcome.html"]

    def get(self, name: str) -> Asset | None:
        """Return a file by its path below the folder, such as ``js/main.js``; None if there is none."""
        return self._assets.get(name)

    def welcome(self, *, is_ready: bool) -> bytes:
        """Return the page at ``/``: where everything is, and whether a request sent now can be answered."""
        answer = "Yes: a request sent now will be answered." if is_ready else "It runs, but it is not ready to answer."
        return self._filled(self._welcome, answer=html.escape(answer), level="ok" if is_ready else "warn")

    def _filled(self, template: str, **values: str) -> bytes:
        for name, value in {"version": self.version, **values}.items():
            template = template.replace("{{" + name + "}}", value)
        return template.encode()

    def _preloads(self) -> str:
        """Modules import each other: a browser that knows all names at once fetches them side by side."""
        names = [name for name in self._assets if name.startswith("js/") and name.endswith(".js")]
        return "\n".join(f'<link rel="modulepreload" href="console/static/{self.version}/{name}">' for name in names)


def _version(assets: Mapping[str, Asset]) -> str:
    digest = hashlib.sha256()
    for name, asset in assets.items():
        digest.update(f"{name}\0{len(asset.body)}\0".encode() + asset.body)
    return digest.hexdigest()[:_HASH_CHARACTERS]
