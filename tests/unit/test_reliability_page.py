"""The table of faults: forty rows, and no test that is only said to exist."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/reliability.md"
COLUMNS = 7


def rows() -> dict[int, list[str]]:
    lines = [line.strip("|").split(" | ") for line in PAGE.read_text().splitlines() if re.match(r"\| \d+ \|", line)]
    return {int(cells[0]): [cell.strip() for cell in cells] for cells in lines}


def test_each_of_the_forty_faults_has_its_row() -> None:
    assert list(rows()) == list(range(1, 41))
    assert {number: len(cells) for number, cells in rows().items() if len(cells) != COLUMNS} == {}


def test_every_test_on_the_page_is_there() -> None:
    missing = [
        (number, name)
        for number, cells in rows().items()
        for name, target in re.findall(r"\[`(\w+)`\]\(([^)]+)\)", cells[4])
        if f"def {name}(" not in (PAGE.parent / target).read_text()
    ]
    assert missing == []


def test_a_row_is_filled_or_says_that_it_is_not() -> None:
    for number, cells in rows().items():
        assert (cells[4] == "not yet") == ("](" not in cells[4]), number
        assert (cells[4] == "not yet") == (cells[6] == "not yet"), number


def strangers() -> list[list[str]]:
    """Return the rows of "What strangers tried": what was tried, before, now, test."""
    part = PAGE.read_text().split("\n## What strangers tried\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ") and not line.startswith("| what was tried")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_each_fault_of_strangers_names_tests_that_exist() -> None:
    for cells in strangers():
        assert len(cells) == 4, cells
        links = re.findall(r"\[`(\w+)`\]\(([^)]+)\)", cells[3])
        assert links, cells[0]
        for name, target in links:
            assert f"def {name}(" in (PAGE.parent / target).read_text(), name
