"""MkDocs calls this when `make site` builds the documentation: its pages, and where their links lead.

docs/README.md is the contents, and so the navigation: a page that is listed there is on the site. Files of the checkout
that pages link to, such as tests, are on it as text. Its readers' browsers fetch nothing from elsewhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from posixpath import join, normpath, relpath
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TOP = {
    "README.md": "index.md",
    "docs/README.md": "contents.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "threat-model.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages of the site that are not where a page of docs/ is, by their paths in the checkout."""

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]*)(#[^)\s]*)?\)")
_FENCE = re.compile(r"(^ *```.*?^ *```$)", re.DOTALL | re.MULTILINE)


def place(path: str) -> str:
    """Return where a file of the checkout is on the site.

    Args:
        path: seen from the checkout's top, such as ``docs/rest.md`` or ``tests/golden/request.json``.
    """
    if path in TOP:
        return TOP[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"source/{path}.txt"


def rewritten(text: str, path: str, is_file: Callable[[str], bool]) -> str:
    """Return a page with each link leading to where that file is on the site; a link to a folder becomes its text.

    Args:
        text: Markdown.
        path: of the page, seen from the checkout's top.
        is_file: whether the checkout has a file at a path.
    """

    def link(found: re.Match[str]) -> str:
        mark, shown, target, anchor = found.groups()
        if not target or "://" in target or target.startswith("mailto:"):
            return found[0]
        linked = normpath(join(os.path.dirname(path), target))
        if not is_file(linked):
            return str(shown)
        to = relpath(place(linked), os.path.dirname(place(path)) or ".")
        return f"{mark}[{_of(shown)}]({to}{anchor or ''})"

    def _of(shown: str) -> str:
        return _LINK.sub(link, shown)

    parts = _FENCE.split(text)
    parts[::2] = [_LINK.sub(link, part).replace("<details>", '<details markdown="1">') for part in parts[::2]]
    return "".join(parts)


def linked_files(text: str, path: str) -> Iterator[str]:
    """Give the path of each file or folder, seen from the checkout's top, that a page links to."""
    for part in _FENCE.split(text)[::2]:
        for _, shown, target, _ in _LINK.findall(part):
            yield from linked_files(shown, path)
            if target and "://" not in target:
                yield normpath(join(os.path.dirname(path), target))


def navigation(contents: str) -> list[dict[str, Any]]:
    """Return MkDocs' ``nav`` of docs/README.md: its headings, and the pages that the rows below them link to."""
    found: list[dict[str, Any]] = [{"Headrace": "index.md"}, {"All pages": "contents.md"}]
    for section in contents.split("\n## ")[1:]:
        title, _, rows = section.partition("\n")
        pages = [(shown, normpath(join("docs", target))) for _, shown, target, _ in _LINK.findall(rows)]
        found.append({title: [{shown: place(path)} for shown, path in pages]})
    return found


def loads_elsewhere(html: str) -> list[str]:
    """Return what of a page its reader's browser would fetch from another server."""
    tags = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*", html)
    return [tag for tag in tags if re.search(r"""(?:src|href)=["']?(?:https?:)?//""", tag) and "canonical" not in tag]


def on_config(config: Any) -> Any:
    """Set the navigation."""
    config["nav"] = navigation((ROOT / "docs/README.md").read_text(encoding="utf-8"))
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of the checkout's top, and the files that pages link to; take away what they replace."""
    from mkdocs.structure.files import File

    index = files.get_file_from_path("README.md")
    files.remove(index)
    pages = {*TOP, *(f"docs/{page.src_uri}" for page in files.documentation_pages())}
    wanted = {path for page in pages for path in linked_files(_text(page), page)}
    for path in sorted({*TOP, *(path for path in wanted - pages if (ROOT / path).is_file())}):
        if path in TOP or not path.startswith("docs/"):
            files.append(File.generated(config, place(path), content=_text(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Rewrite the links of a page."""
    uri = page.file.src_uri
    path = next((path for path, there in TOP.items() if there == uri), f"docs/{uri}")
    return rewritten(markdown, path, lambda linked: (ROOT / linked).is_file())


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Fail the build where a page would not work without a network.

    Raises:
        ValueError: with what it would fetch.
    """
    if found := loads_elsewhere(output):
        raise ValueError(f"{page.file.src_uri} loads from another server: {', '.join(found)}")
    return output


def _text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")
