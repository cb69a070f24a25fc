"""The site of the documentation: each page is on it, and each link leads to something on it."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import pytest

from deploy.site.hooks import TOP, linked_files, loads_elsewhere, navigation, place, rewritten
from tests.children import ROOT

PAGES = sorted([*TOP, *(f"docs/{path.name}" for path in ROOT.glob("docs/*.md") if path.name != "README.md")])


def _is_file(path: str) -> bool:
    return (ROOT / path).is_file()


@pytest.mark.parametrize(
    ("link", "becomes"),
    [
        ("[REST](rest.md#errors)", "[REST](rest.md#errors)"),
        ("[start](../README.md)", "[start](index.md)"),
        ("[all](README.md)", "[all](contents.md)"),
        ("[changes](../CONTRIBUTING.md#speed)", "[changes](contributing.md#speed)"),
        ("[test](../tests/conftest.py)", "[test](source/tests/conftest.py.txt)"),
        ("[tests](../tests)", "tests"),
        ("![flow](img/flow.svg)", "![flow](img/flow.svg)"),
        ("[![flow](../docs/img/flow.svg)](../README.md)", "[![flow](img/flow.svg)](index.md)"),
        ("[Redis](https://redis.io)", "[Redis](https://redis.io)"),
        ("[above](#above)", "[above](#above)"),
        ("\n```\n[test](../tests/conftest.py)\n```", "\n```\n[test](../tests/conftest.py)\n```"),
        ("<details><summary>", '<details markdown="1"><summary>'),
    ],
)
def test_a_link_leads_to_where_the_file_is_on_the_site(link: str, becomes: str) -> None:
    assert rewritten(f"See {link}\n", "docs/page.md", _is_file) == f"See {becomes}\n"


def test_a_page_of_the_top_links_into_the_documentation() -> None:
    assert rewritten("[REST](docs/rest.md)", "README.md", _is_file) == "[REST](rest.md)"
    assert rewritten("[me](models.toml)", "README.md", _is_file) == "[me](source/models.toml.txt)"


@pytest.mark.parametrize("page", PAGES)
def test_each_link_of_a_page_is_on_the_site(page: str) -> None:
    there = {place(path) for path in PAGES} | {
        place(path) for path in linked_files(_text(page), page) if _is_file(path)
    }
    text = re.sub(r"^ *```.*?^ *```$", "", rewritten(_text(page), page, _is_file), flags=re.DOTALL | re.MULTILINE)
    targets = {target for target in re.findall(r"\]\(([^)\s#]+)", text) if "://" not in target}
    assert {target for target in targets if posixpath.normpath(target) not in there} == set()


def test_each_page_is_in_the_navigation_once() -> None:
    def uris(nav: list[dict[str, Any]]) -> list[str]:
        found: list[str] = []
        for entry in nav:
            for value in entry.values():
                found += uris(value) if isinstance(value, list) else [value]
        return found

    assert sorted(uris(navigation(_text("docs/README.md")))) == sorted(place(page) for page in PAGES)


def test_the_kinds_of_pages_are_the_headings_of_the_navigation() -> None:
    titles = [title for entry in navigation(_text("docs/README.md")) for title in entry]
    assert titles[-4:] == ["Tutorial", "How-to guides", "Reference", "Explanation"]


def test_what_a_browser_would_fetch_elsewhere_is_found() -> None:
    assert loads_elsewhere('<a href="https://redis.io">Redis</a><img src="img/flow.svg"><script src=search.js>') == []
    for tag in ('<script src="https://cdn.example/x.js"', "<link rel=stylesheet href=//fonts.example/a.css"):
        assert loads_elsewhere(f"<p>{tag}></p>") == [tag]


def _text(path: str) -> str:
    return Path(ROOT / path).read_text(encoding="utf-8")
