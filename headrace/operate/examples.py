"""Lines to paste: a request for each model, as its card shows one."""

from __future__ import annotations

import shlex

import msgspec

from headrace.asking.local_http import NoAnswer, ask, reachable
from shared.families import known
from shared.model_config import ModelConfig
from shared.modules import PHOTO
from shared.settings import Settings
from shared.state.cards import Example

MOST_CHARACTERS = 1000
"""Of a line; with a longer one the model's card is shown instead, which has the example."""

_ASK_S = 1.0
_PHOTO = ("image/jpeg", f"@{PHOTO}")


class _Card(msgspec.Struct):
    content_types: tuple[str, ...] = ()
    example: Example | None = None


def asked(settings: Settings, name: str) -> tuple[Example | None, bool]:
    """Ask the front end for a model's example, and whether the model takes photographs [I/O].

    None and False where it does not answer, or not without an API key.
    """
    try:
        answer = ask(
            reachable(settings.host),
            settings.port,
            f"/v1/models/{name}",
            _ASK_S,
            tls=settings.tls_cert_file is not None,
        )
        card = msgspec.json.decode(answer.body, type=_Card)
    except (NoAnswer, msgspec.MsgspecError):
        return None, False
    return card.example, "image/jpeg" in card.content_types


def curl(url: str, name: str, config: ModelConfig, example: Example | None = None, takes_photos: bool = False) -> str:
    """Return a command that gets an answer from a model. Pure.

    Args:
        url: of the front end, without a slash at the end.
        example: of the model's card.
        takes_photos: JPEG is among the content types that the model takes.
    """
    predict = f"{url}/v1/models/{name}/predict"
    sample = known(config.family).sample
    if sample is not None:
        return _of_file(sample, predict)
    line = "" if example is None else _of_example(example, predict)
    if 0 < len(line) <= MOST_CHARACTERS:
        return line
    is_picture = example is None or example.content_type.startswith("image/")
    if is_picture and takes_photos and config.family != "torchserve":  # a handler may want anything
        return _of_file(_PHOTO, predict)
    return f"curl {url}/v1/models/{name}"


def _of_file(sample: tuple[str, str], predict: str) -> str:
    return f"curl -H 'Content-Type: {sample[0]}' --data-binary {shlex.quote(sample[1])} {predict}"


def _of_example(example: Example, predict: str) -> str:
    head = f"curl -H {shlex.quote(f'Content-Type: {example.content_type}')}"
    if example.is_base64:
        return f"echo {shlex.quote(example.body)} | base64 -d | {head} --data-binary @- {predict}"
    if example.body.startswith("@"):  # curl would read a file of that name
        return f"printf %s {shlex.quote(example.body)} | {head} --data-binary @- {predict}"
    return f"{head} --data-binary {shlex.quote(example.body)} {predict}"
