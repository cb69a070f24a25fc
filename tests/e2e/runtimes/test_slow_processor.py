"""A processor without AVX-512 and bf16: what a consumer does on it, with the real libraries.

On a processor that has them they are forbidden; on one that has not, this is how every other test runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, call
from tests.helpers import write_models_file
from tests.slow_processor import FORBID_AVX512

LACKS = "this processor has no instructions for it"


@pytest.fixture
def stack(valkey_url: str, tmp_path: Path, model_name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """A stack for a model on torch, whose processes are forbidden AVX-512."""
    for name, value in FORBID_AVX512.items():
        monkeypatch.setenv(name, value)
    models = write_models_file(tmp_path, model_name, "tests.e2e.runtimes.small_network:create")
    with Stack(valkey_url, models, DATA_DIR=str(tmp_path), MAX_BATCH="4") as stack:
        stack.start_front_end()
        yield stack


@pytest.mark.soak  # a nightly job runs all tests so
def test_auto_leaves_out_what_is_emulated_and_the_card_says_so(stack: Stack, model_name: str) -> None:
    stack.start_consumer(model_name)
    stack.wait(model_name)
    card = call(f"{stack.url}/v1/models/{model_name}").body
    assert card["precision"] == "fp32"
    assert f"bf16 is not tried, since {LACKS}." in card["precision_reason"]


@pytest.mark.soak
def test_who_asks_for_it_by_name_gets_it_with_a_warning(stack: Stack, model_name: str) -> None:
    consumer = stack.start_consumer(model_name, PRECISION="bf16")
    stack.wait(model_name)
    card = call(f"{stack.url}/v1/models/{model_name}").body
    assert card["precision"] == "bf16"
    assert f"It is emulated, since {LACKS}." in card["precision_reason"]
    assert (
        f"WARNING consumer.loading.precision: Precision bf16 was asked for by name, although {LACKS}" in consumer.text()
    )
    answer = stack.predict(model_name, bytes(range(16)))
    assert answer.body["outputs"][0]["data"] == [2.0 * number for number in range(16)]
