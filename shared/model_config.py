"""``models.toml``: which models exist and how each is built."""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from . import files
from .families import FAMILIES, Family, added_by, known
from .files import FileRefused
from .modules import ROOT
from .names import is_name
from .settings import CACHE_SCOPES, MAX_BATCH_CEILING, MOST_CONSUMERS, POLICIES, PRECISIONS, RUNTIMES, SettingsError

USUAL_FILE = "models.toml"

Size = Annotated[int, msgspec.Meta(ge=1, le=MAX_BATCH_CEILING)]


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an image becomes a tensor: shorter side to ``resize`` pixels, centre ``crop``, then (x/255 - mean) / std."""

    resize: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 256
    crop: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 224
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


class TextConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an encoder is used; what is left out is what the folder of the weights says.

    Attributes:
        task: ``embedding``, ``classification`` or ``reranking``.
        pooling: how a text's vector is made of its tokens': ``mean``, ``cls`` (the first one) or ``last``.
        normalize: whether vectors have the length 1.
        context: most tokens of a text; never more than the network takes.
        batch_tokens: most tokens of a batch.
        request_tokens: most tokens of a request; None for 32 batches.
    """

    task: Literal["embedding", "classification", "reranking"] | None = None
    pooling: Literal["mean", "cls", "last"] | None = None
    normalize: bool | None = None
    context: Annotated[int, msgspec.Meta(ge=8, le=1_000_000)] | None = None
    batch_tokens: Annotated[int, msgspec.Meta(ge=16, le=1_000_000)] = 2048
    request_tokens: Annotated[int, msgspec.Meta(ge=16, le=1_000_000)] | None = None


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ``[models.NAME]`` table.

    Attributes:
        family: a name in ``shared.families.FAMILIES``, or one that an installed package adds.
        architecture: constructor name within the family.
        weights: ``DEFAULT``, ``random``, ``package:NAME`` or the path of a file (state dict, safetensors,
            or for family ``onnx`` an ONNX file); for family ``text`` a folder or ``package:NAME``.
        entry: ``package.module:factory`` for family ``python``.
        precision, runtime, max_batch, window_ms, batch_policy, buckets: defaults that the environment overrides.
        cache_s, cache_mb, cache_scope: for how long front ends keep answers, how much of them each keeps, and whether
            an answer is for the API key that asked for it or for all; 0 s keeps nothing. The environment overrides.
        consumers: processes that serve it under `headrace up`; 0 leaves that to the machine.
        labels: ``imagenet-1k``, or the path of a text file with one label a line.
        samples: a folder of pictures of the kind that clients send, for comparing precisions at start-up;
            for family ``onnx`` an ``.npz`` file with rows of the inputs.
        text: how family ``text`` uses the encoder.
        options: handed to the factory of family ``python``, or to a package's family, as they are.
    """

    family: str
    architecture: str | None = None
    weights: str | None = None
    entry: str | None = None
    version: str = "1"
    precision: str = "auto"
    runtime: str = "auto"
    max_batch: Size = 32
    window_ms: Annotated[float, msgspec.Meta(ge=0, le=60_000)] | None = None
    batch_policy: str | None = None
    buckets: Annotated[tuple[Size, ...], msgspec.Meta(min_length=1)] | None = None
    consumers: Annotated[int, msgspec.Meta(ge=0, le=MOST_CONSUMERS)] = 0
    cache_s: Annotated[float, msgspec.Meta(ge=0, le=604_800)] = 0
    cache_mb: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] = 64
    cache_scope: str = CACHE_SCOPES[0]
    preprocessing: Preprocessing | None = None
    labels: str | None = None
    samples: str | None = None
    text: TextConfig | None = None
    options: dict[str, Any] = {}


def _check(name: str, config: ModelConfig) -> None:
    where = f"models.{name}"
    for key, value, allowed in (
        ("precision", config.precision, PRECISIONS),
        ("runtime", config.runtime, RUNTIMES),
        ("batch_policy", config.batch_policy or POLICIES[0], POLICIES),
        ("cache_scope", config.cache_scope, CACHE_SCOPES),
    ):
        if value not in allowed:
            raise SettingsError(f"{where}.{key} must be one of {', '.join(allowed)}, not {value!r}.")
    check_needs(name, config, known(config.family))


def check_needs(name: str, config: ModelConfig, family: Family) -> None:
    """Check that the table of model ``name`` has what its family needs.

    Raises:
        SettingsError: it does not.
    """
    for key, what in family.needs.items():
        if not getattr(config, key, None):
            raise SettingsError(f"models.{name}.{key} is missing: family {config.family!r} needs {what}.")


def parse(text: str, source: str = USUAL_FILE) -> dict[str, ModelConfig]:
    """Read the text of a models file.

    A family that is none of ours is not looked for: another consumer, of another image, may have the package.

    Raises:
        SettingsError: not TOML, an unknown or malformed key, or a model name that cannot be used; the sentence names
            ``source`` and the key.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{source} is not valid TOML: {error}.") from None
    if set(document) - {"models"} or not isinstance(document.get("models"), dict):
        raise SettingsError(f"{source} must hold [models.NAME] tables and nothing else.")
    models: dict[str, ModelConfig] = {}
    for name, table in document["models"].items():
        if not is_name(name):
            raise SettingsError(f"{source}: a model name must be 1 to 64 letters, digits, '_' or '-', not {name!r}.")
        try:
            models[name] = msgspec.convert(table, ModelConfig)
        except msgspec.ValidationError as error:
            raise SettingsError(f"{source}: models.{name}: {error}.") from None
        _check(name, models[name])
    return models


def load(path: str | Path) -> dict[str, ModelConfig]:
    """Read the models file at ``path``; the one that comes with Headrace, where there is none of the usual name.

    Raises:
        SettingsError: the file cannot be read or is not a valid models file.
    """
    if str(path) == USUAL_FILE and not Path(path).exists():
        path = ROOT / USUAL_FILE
    try:
        text = files.read_text(path, files.TABLE_BYTES)
    except FileRefused as error:
        raise SettingsError(
            f"HEADRACE_MODELS_FILE: the models file {files.shown(path)} cannot be read: {error}."
        ) from None
    return parse(text, str(path))


def pick(models: dict[str, ModelConfig], name: str, source: str) -> ModelConfig:
    """Return the table of model ``name``.

    Raises:
        SettingsError: there is no such model, or no such family; the sentence lists those there are.
    """
    config = models.get(name)
    if config is None:
        near = get_close_matches(name, models, n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        there = ", ".join(sorted(models)) or "no models"
        raise SettingsError(f"Model {name!r} is not in {source}; it has {there}.{meant}")
    if config.family not in FAMILIES and not added_by(config.family):
        names = f"{', '.join(FAMILIES)}, or one that an installed package adds"
        raise SettingsError(f"models.{name}.family must be one of {names}, not {config.family!r}.")
    return config
