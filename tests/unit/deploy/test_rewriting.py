"""Imports as a wheel has them."""

from __future__ import annotations

import ast

import pytest

from tests.e2e.wheel.building import rewriting

REWRITTEN = {
    "from shared.names import is_name": "from headrace._internal.shared.names import is_name",
    "from consumer import worker": "from headrace._internal.consumer import worker",
    "import loadgen.results as results": "import headrace._internal.loadgen.results as results",
    "def f():\n    from producer_api.app import make  # late": (
        "def f():\n    from headrace._internal.producer_api.app import make  # late"
    ),
    "if True: from shared import files; from shared import keys": (
        "if True: from headrace._internal.shared import files; from headrace._internal.shared import keys"
    ),
    "x = 'é'; from shared import files": "x = 'é'; from headrace._internal.shared import files",
}


@pytest.mark.parametrize("source", REWRITTEN)
def test_imports_lead_into_the_package(source: str) -> None:
    assert rewriting.rewritten(source, "a.py") == REWRITTEN[source]


@pytest.mark.parametrize(
    "source",
    [
        "from sharedthings import names",
        "from .shared import names",
        "import consumerism",
        "TEXT = 'from shared import names'",
        "# from shared import names",
        "from headrace.model import Model",
    ],
)
def test_nothing_else_is_touched(source: str) -> None:
    assert rewriting.rewritten(source, "a.py") == source


def test_lines_stay_where_they_are() -> None:
    source = "from shared.names import (\n    is_name,  # why\n)\nvalue = 1\n"
    found = rewriting.rewritten(source, "a.py")
    assert found.splitlines()[1:] == source.splitlines()[1:]
    ast.parse(found)


def test_an_import_that_would_bind_a_name_of_others_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.py:2: write `from shared\.names import …` instead"):
        rewriting.rewritten("import os\nimport shared.names\n", "a.py")
