"""The table of families, and what installed packages add to it."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import msgspec
import pytest

from shared.families import FAMILIES, Family, added_by, known
from shared.model_config import ModelConfig, parse, pick
from shared.settings import SettingsError
from tests import packages
from tests.children import ROOT, clean_environment

TABLE = '[models.mine]\nfamily = "acme"\noptions = { size = 3 }\n\n[models.echo]\nfamily = "echo"\n'


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with packages, as seen from here."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_the_table_is_whole(name: str) -> None:
    family = FAMILIES[name]
    module, _, function = family.build.partition(":")
    assert callable(getattr(import_module(module), function))
    assert set(family.needs) <= {field.name for field in msgspec.structs.fields(ModelConfig)}
    assert known(name) is family


@pytest.mark.parametrize("page", ["docs/models.md", "models.toml"])
def test_every_family_of_the_table_is_documented(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert [name for name in FAMILIES if not re.search(rf"\b{name}\b", text)] == []


def test_a_table_of_a_packages_family_is_accepted_where_it_is_not_served() -> None:
    models = parse(TABLE)
    assert models["mine"].options == {"size": 3}
    assert pick(models, "echo", "some.toml").family == "echo"
    with pytest.raises(SettingsError, match=r"models\.mine\.family must be one of echo, .* package adds, not 'acme'\."):
        pick(models, "mine", "some.toml")


def test_an_installed_family_is_accepted_and_its_package_not_imported(site: Path) -> None:
    packages.install(site, "acme-models", packages.family("acme", "acme_models:FAMILY"), {"acme_models": "1 / 0\n"})
    assert list(added_by("acme")) == ["acme-models"]
    assert pick(parse(TABLE), "mine", "some.toml").family == "acme"
    assert added_by("acm") == {}


def test_what_is_known_of_a_packages_family_without_importing_it_is_nothing_special() -> None:
    family = known("acme")
    assert (family.computes, family.is_network, family.sample, dict(family.needs)) == (True, False, None, {})


def test_damaged_metadata_of_another_package_disturbs_nobody(site: Path) -> None:
    packages.install(site, "broken-one", "[headrace.families]\nno equals sign\n", {})
    packages.install(site, "acme-models", packages.family("acme", "acme_models:FAMILY"), {})
    (site / "nothing-1.0.dist-info").mkdir()
    (site / "nothing-1.0.dist-info" / "entry_points.txt").write_bytes(b"\xff\xfe")
    assert list(added_by("acme")) == ["acme-models"]


def test_of_two_copies_of_a_package_the_first_on_the_path_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("second", "first"):
        folder = packages.install(tmp_path / place, "acme-models", packages.family("acme", f"{place}:FAMILY"), {})
        monkeypatch.syspath_prepend(str(folder))
    assert [point.value for point in added_by("acme").values()] == ["first:FAMILY"]


@pytest.mark.parametrize(
    "wrong",
    [{"build": 5}, {"build": None}, {"build": "a:b", "needs": ("weights",)}, {"build": "a:b", "library": "tensorflow"}],
)
def test_a_family_that_is_none_is_refused_where_it_is_made(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="a Family has build"):
        Family(**wrong)  # type: ignore[arg-type]


def test_a_models_file_is_checked_without_a_consumer_and_without_the_package(tmp_path: Path) -> None:
    packages.install(tmp_path, "acme-models", packages.family("acme", "acme_models:FAMILY"), {"acme_models": "1 / 0\n"})
    code = (
        "import sys\nfrom shared.model_config import parse, pick\n"
        f"pick(parse({TABLE!r}), 'mine', 'some.toml')\n"
        "print({name.partition('.')[0] for name in sys.modules} & {'consumer', 'acme_models', 'torch', 'numpy'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=clean_environment(PYTHONPATH=f"{ROOT}:{tmp_path}"),
        check=True,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.stdout == "set()\n"
