"""The OpenAPI document against a running stack: schemathesis sends what it allows, and what not, over every path.

Each answer must have a documented status, headers, media type and shape; what the document allows is taken, and what it
forbids is refused. Not found out so: whether an answer is right.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.api_keys import digest_of
from tests.children import ROOT, clean_environment
from tests.e2e.stack import Stack, call
from tests.helpers import first

RUN = (sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()")
SEED = 20261130
KEY = "hr_tester-tester-tester"
REFUSED = '"2xx", 401, 403, 404, 406, 409, 413, 415, 422, 429, 499, 503, 504, 507'
"""How a request may end that its schema allows: what a model takes is in its card. Not 400, which is for what cannot be
parsed, and not 500."""

CONFIG = """
seed = {seed}
request-timeout = 30.0
continue-on-failure = true
hooks = "tests.e2e.openapi.beyond_the_document"
warnings = false

[dictionaries]
models = {{ values = {models} }}

[parameters]
"path.model" = {{ dictionary = "models", probability = 0.85 }}
"path.version" = {{ dictionary = "versions", probability = 0.85 }}

[dictionaries.versions]
values = ["1"]

[generation]
mode = "all"
max-examples = {examples}
database = "none"
# Headers that nobody knows are ignored, as everywhere in HTTP.
allow-extra-parameters = false

[checks.positive_data_acceptance]
expected-statuses = [{refused}]

# A deadline may be so short that it passes.
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 503, 504]

# DELETE cancels: what was there already stays.
[checks.use_after_free]
enabled = false

# Whether lines, parts and archives can be read is not in the document, and a line that is wrong errs alone.
[[operations]]
include-path-regex = "/batches$"
checks.positive_data_acceptance.expected-statuses = [400, {refused}]
checks.negative_data_rejection.expected-statuses = [201, "4xx", 503, 507]

# There the protocol's clients expect 400 for what else is 422, and a header says where the JSON ends.
[[operations]]
include-path-regex = "^/v2/|:predict$"
checks.positive_data_acceptance.expected-statuses = [400, {refused}]
# Parts of the protocol that there are not.
checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 501, 503, 504]

# A body may be anything there, and the model says what it takes.
[[operations]]
include-path-regex = "^/predictions/"
checks.positive_data_acceptance.expected-statuses = [400, {refused}]
checks.negative_data_rejection.expected-statuses = ["2xx", "4xx", 503]

# So it is for OpenAI's clients, and many members exclude each other.
[[operations]]
include-path-regex = "^/v1/(embeddings|chat/completions|completions|responses|files|batches)|rerank$|^/embed$"
checks.positive_data_acceptance.expected-statuses = [400, {refused}]
"""


@pytest.fixture(scope="module")
def stack(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, list[str]]]:
    """A front end, an echo, a classifier, a model that embeds texts and one that generates them.

    The folder of results is there, so that every path does something."""
    folder = tmp_path_factory.mktemp("openapi")
    names = [f"{kind}-{os.getpid()}" for kind in ("echo", "labelled", "letters", "writer")]
    path = folder / "models.toml"
    entry = 'family = "python"\nentry = "tests.e2e.openapi.labelled:create"\n'
    path.write_text(
        f'[models.{names[0]}]\nfamily = "echo"\n[models.{names[1]}]\n{entry}'
        f'[models.{names[2]}]\nfamily = "python"\nentry = "tests.e2e.openai.letters:create"\n'
        f'[models.{names[3]}]\nfamily = "generate"\narchitecture = "null"\noptions = {{ context = 256 }}\n'
    )
    with Stack(valkey_url, path, DATA_DIR=str(folder / "data"), RESULTS=str(folder / "results")) as stack:
        stack.start_front_end(MODELS=",".join(names), DEFAULT_MODEL=names[0])
        front = stack.latest
        for consumer in [stack.begin_consumer(name) for name in names]:
            consumer.until("Ready: ")
        for name in names[:-1]:
            stack.wait(name)
        yield stack, names
        assert not [line for line in front.lines if "Traceback" in line or " ERROR " in line]


def models_by_path(names: list[str]) -> dict[str, str]:
    """Which model answers at the paths whose body names it."""
    letters, writer = names[2:]
    embedding = ("/v1/embeddings", "/embed", "/rerank", "/v1/rerank", "/v2/rerank")
    generating = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
    return {**dict.fromkeys(embedding, letters), **dict.fromkeys(generating, writer)}


PARTS = ("^/v1/", "^(?!/v1/|/openapi)")
"""Paths that are tried together; each path is in one of them."""


def check(stack: Stack, names: list[str], folder: Path, examples: int, *options: str, part: str = "") -> None:
    """Run schemathesis; fails with what it found.

    Args:
        part: a pattern of paths; only those are tried.
    """
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG.format(seed=SEED, models=names, examples=examples, refused=REFUSED))
    only = ("--include-path-regex", part) if part else ()
    ran = subprocess.run(
        [*RUN, "--config-file", str(config), "run", f"{stack.url}/openapi.json", "--no-color", *options, *only],
        cwd=folder,
        env=clean_environment(PYTHONPATH=str(ROOT), MODELS_BY_PATH=json.dumps(models_by_path(names))),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr[-2000:]
    paths = call(f"{stack.url}/openapi.json").body["paths"]
    del paths["/openapi.json"]  # the document's own address is left out
    operations = sum(method != "parameters" for path in paths if re.search(part, path) for method in paths[path])
    assert operations
    assert f"Tested: {operations}\n" in ran.stdout, ran.stdout
    assert call(f"{stack.url}/readyz").status == 200


@pytest.mark.timeout(120)
@pytest.mark.parametrize("part", first(1, PARTS))
def test_schemathesis_finds_nothing(stack: tuple[Stack, list[str]], tmp_path: Path, part: str) -> None:
    check(*stack, tmp_path, 3, part=part)


@pytest.mark.soak  # which key opens what is in tests/e2e/producer_api/test_api_keys.py
def test_where_keys_are_required_every_path_asks_for_one_that_should(
    stack: tuple[Stack, list[str]], tmp_path: Path
) -> None:
    running, names = stack
    open_url = running.url
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[keys.tester]\nsha256 = "{digest_of(KEY.encode()).hex()}"\n')
    running.start_front_end(KEYS_FILE=str(keys), MODELS=",".join(names), DEFAULT_MODEL=names[0])
    header = ("--header", f"Authorization: Bearer {KEY}")
    check(running, names, tmp_path, 1, "--phases", "fuzzing", "--mode", "positive", *header)
    for path, item in call(f"{running.url}/openapi.json").body["paths"].items():
        for operation in (one for name, one in item.items() if name != "parameters"):
            assert ("401" in operation["responses"]) is (operation.get("security") != []), path
    running.url = open_url


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_schemathesis_finds_nothing_in_many_more_tries(stack: tuple[Stack, list[str]], tmp_path: Path) -> None:
    check(*stack, tmp_path, 200)
