"""From the text of an environment variable to the value of a setting, or one sentence on why it is none. Pure.

Each function takes the variable's name and text, and raises :class:`SettingsError`.
"""

from __future__ import annotations

import ipaddress
import re
from base64 import b64decode

from . import redis_url
from .names import check_name

MAX_BATCH_CEILING = 4096

_HOST = re.compile(r"(?:\*|(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|[0-9a-f]*:[0-9a-f:.]*)\Z")
_STORE = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/[A-Za-z0-9._-]+)*/?\Z")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
_ORIGIN = re.compile(r"(?:\*|[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?)\Z")
_ROUTE = re.compile(r"/[A-Za-z0-9._~:/-]{0,500}\Z")
_BASE_URL = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]*)?\Z")


class SettingsError(ValueError):
    """A setting is unknown, malformed, or contradicts another; the message is one sentence for the operator."""


def whole(name: str, text: str, low: int, high: int) -> int:
    """Return a whole number from ``low`` to ``high``."""
    try:
        value = int(text)
    except ValueError:
        raise SettingsError(f"{name} must be a whole number, not {text!r}.") from None
    if not low <= value <= high:
        raise SettingsError(f"{name} must lie between {low} and {high}, not {value}.")
    return value


def number(name: str, text: str, low: float, high: float) -> float:
    """Return a number from ``low`` to ``high``."""
    try:
        value = float(text)
    except ValueError:
        raise SettingsError(f"{name} must be a number, not {text!r}.") from None
    if not low <= value <= high:
        raise SettingsError(f"{name} must lie between {low:g} and {high:g}, not {text}.")
    return value


def choice(name: str, text: str, allowed: tuple[str, ...]) -> str:
    """Return one of ``allowed``."""
    if text not in allowed:
        raise SettingsError(f"{name} must be one of {', '.join(allowed)}, not {text!r}.")
    return text


def model_names(name: str, text: str) -> tuple[str, ...]:
    """Return the names of models, at least one."""
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise SettingsError(f"{name} must name at least one model.")
    try:
        for part in names:
            check_name(part, f"A model in {name}")
    except ValueError as error:
        raise SettingsError(str(error)) from None
    if len(set(names)) != len(names):
        raise SettingsError(f"{name} names a model twice: {text}.")
    return names


def hosts(name: str, text: str) -> tuple[str, ...]:
    """Return host names and patterns of them."""
    return _each(name, text, _HOST, "names without scheme and port (api.example.org, *.example.org, or * for any)")


def origins(name: str, text: str) -> tuple[str, ...]:
    """Return origins of web pages."""
    says = "origins such as https://app.example.org or http://localhost:3000, without a path, or is *"
    return _each(name, text, _ORIGIN, says)


def networks(name: str, text: str) -> tuple[str, ...]:
    """Return networks and addresses."""
    parts = tuple(part.strip() for part in text.split(","))
    for part in parts:
        try:
            ipaddress.ip_network(part)
        except ValueError:
            raise SettingsError(f"{name} lists networks such as 10.1.0.0/16 or 127.0.0.1, not {part!r}.") from None
    return parts


def secrets(name: str, text: str) -> tuple[str, ...]:
    """Return secrets of Standard Webhooks."""
    # No sentence shows a part of a secret.
    parts = tuple(part.strip() for part in text.split(","))
    for part in parts:
        try:
            size = len(b64decode(part.removeprefix("whsec_"), validate=True))
        except ValueError:
            size = 0
        if not part.startswith("whsec_") or not 24 <= size <= 64:
            raise SettingsError(f"{name} lists secrets: whsec_ and the base64 of 24 to 64 random bytes, each.")
    return parts


def base_url(name: str, text: str) -> str:
    """Return an address without the slash at its end."""
    text = text.strip().rstrip("/")
    if not _BASE_URL.match(text):
        raise SettingsError(f"{name} must be such as https://api.example.org, without a query, not {text!r}.")
    return text


def store(name: str, text: str) -> str:
    """Return where the result store is: ``off``, a folder, or ``s3://bucket/prefix``."""
    if not text.strip():
        raise SettingsError(f"{name} must not be empty.")
    if "://" in text and not _STORE.match(text):
        raise SettingsError(f"{name} must be a folder, s3://bucket/prefix, or off.")  # it may hold a password
    return text


def folders(name: str, text: str) -> tuple[str, ...]:
    """Return absolute folders, separated as in ``PATH``."""
    parts = tuple(part.strip() for part in text.split(":"))
    for part in parts:
        if not part.startswith("/") or not part.isprintable() or ".." in part.split("/"):
            raise SettingsError(f"{name} lists absolute folders, separated by colons, not {part!r}.")
    return parts


def buckets(name: str, text: str) -> tuple[str, ...]:
    """Return names of buckets of S3."""
    return _each(name, text, _BUCKET, "buckets of S3 by their names")


def _each(name: str, text: str, pattern: re.Pattern[str], says: str) -> tuple[str, ...]:
    """Return the parts of a list in lower case, each of which must match."""
    parts = tuple(part.strip().lower() for part in text.split(","))
    for part in parts:
        if not pattern.match(part):
            raise SettingsError(f"{name} lists {says}, not {part!r}.")
    return parts


def model_name(name: str, text: str) -> str:
    """Return the name of a model."""
    try:
        check_name(text, f"The model in {name}")
    except ValueError as error:
        raise SettingsError(str(error)) from None
    return text


def path(name: str, text: str) -> str:
    """Return the path of an endpoint."""
    if not _ROUTE.match(text):
        raise SettingsError(
            f"{name} must be a path of letters, digits and -._~:/, such as /predict, not {text[:200]!r}."
        )
    return text


def sizes(name: str, text: str) -> tuple[int, ...]:
    """Return sizes of batches in ascending order."""
    sizes = {whole(f"Each size in {name}", part.strip(), 1, MAX_BATCH_CEILING) for part in text.split(",")}
    return tuple(sorted(sizes))


def redis_address(name: str, text: str) -> str:
    """Return the address of a Redis."""
    if not text.startswith(redis_url.SCHEMES):
        raise SettingsError(f"{name} must start with {', '.join(redis_url.SCHEMES[:-1])} or {redis_url.SCHEMES[-1]}.")
    # No sentence shows a part of the address: what cannot be read may be a password.
    try:
        redis_url.check(text)
    except ValueError as error:
        raise SettingsError(f"{name} is not a valid address: {error}.") from None
    return text


def text_of(name: str, text: str) -> str:
    """Return a text that is not empty."""
    if not text.strip():
        raise SettingsError(f"{name} must not be empty.")
    return text
