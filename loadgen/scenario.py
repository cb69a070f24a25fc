"""What one run is to do: a frozen value made from the command line, checked once, with clear sentences."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import SplitResult, quote, unquote, urlsplit

from shared.names import is_name

from .errors import EXIT_USAGE, LoadgenError
from .schedule import Arrivals

if TYPE_CHECKING:
    from .workloads.spec import Workload  # which takes time to import, and `loadgen wait` needs none of it

CONTENT_TYPES: Final = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".json": "application/json",
    ".msgpack": "application/msgpack",
}
OCTET_STREAM: Final = "application/octet-stream"
JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
Kind = Literal["open", "closed", "offline", "ramp"]
_HOST_NAME = re.compile(r"[A-Za-z0-9._:-]+")
API_KEY: Final = "HEADRACE_API_KEY"
"""The variable with the key that a service asks for; an option would show it to every user of the machine."""
_API_KEY_VALUE = re.compile(r"[\x21-\x7e]{1,4096}")
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(?:\s*;[\x20-\x7e]*)?")
_MOST_REQUESTS: Final = 2_000_000


@dataclass(frozen=True, slots=True)
class Target:
    """Where the front end listens, or the Redis whose stream is written to.

    `prefix` is the path before `/v1`, without a slash at its end. `shown` is the address without its password.
    `key` is sent as `Authorization: Bearer`; it is part of no result and no message.
    """

    url: str
    host: str
    port: int
    prefix: str
    is_stream: bool = False
    username: str | None = None
    password: str | None = None
    database: int = 0
    key: str | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """The address as results and messages show it: without user and password."""
        return f"redis://{self.host_header}/{self.database}" if self.is_stream else self.url

    @property
    def host_header(self) -> str:
        """The Host header's value; brackets belong to a literal IPv6 address only."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def model_path(self, model: str) -> str:
        """Path of the model's card."""
        return f"{self.prefix}/v1/models/{quote(model, safe='')}"

    def predict_path(self, model: str) -> str:
        """Path that answers an inference."""
        return self.model_path(model) + "/predict"

    def openai_path(self, below: str) -> str:
        """Path of OpenAI's API."""
        return f"{self.prefix}/v1{below}"


@dataclass(frozen=True, slots=True)
class Payload:
    """One request body, ready to send. `texts`: how many texts it asks about; of a workload only."""

    name: str
    content_type: str
    body: bytes
    texts: int = 0

    @property
    def sha256(self) -> str:
        """Hash of the body, hexadecimal: two runs with equal hashes sent the same bytes."""
        return hashlib.sha256(self.body).hexdigest()


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run. Exactly one of `rate_per_s` (open loop) and `concurrency` (closed loop) is set.

    An open loop with `rate_end_per_s` is a ramp: its rate changes evenly from the one to the other. A closed loop with
    `requests` is offline: it ends after so many, and how long they took is the figure; `duration_s` bounds it.
    `workload`: what `payloads` were made from; None when they are files.
    """

    target: Target
    model: str
    payloads: tuple[Payload, ...]
    duration_s: float
    warmup_s: float
    seed: int
    rate_per_s: float | None = None
    arrivals: Arrivals = "poisson"
    burstiness: float = 1.0
    rate_end_per_s: float | None = None
    concurrency: int | None = None
    requests: int | None = None
    max_in_flight: int = 512
    connections: int = 512
    timeout_s: float = 10.0
    accept: str = JSON
    workload: Workload | None = None

    @property
    def kind(self) -> Kind:
        """Which of the four scenarios this is."""
        if self.rate_per_s is not None:
            return "open" if self.rate_end_per_s is None else "ramp"
        return "closed" if self.requests is None else "offline"

    def __post_init__(self) -> None:
        if (self.rate_per_s is None) == (self.concurrency is None):
            raise LoadgenError("Give exactly one of --rate (open loop) and --concurrency (closed loop).", EXIT_USAGE)
        if self.rate_per_s is not None:
            if not (math.isfinite(self.rate_per_s) and self.rate_per_s > 0):
                raise LoadgenError(f"--rate must be above 0 requests per second, not {self.rate_per_s}.", EXIT_USAGE)
            end = self.rate_per_s if self.rate_end_per_s is None else self.rate_end_per_s
            if not (math.isfinite(end) and end > 0):
                raise LoadgenError(f"--rate-end must be above 0 requests per second, not {end}.", EXIT_USAGE)
            planned = max(self.rate_per_s, end) * (self.duration_s + self.warmup_s)
            if planned > _MOST_REQUESTS:
                raise LoadgenError(
                    f"--rate times --duration makes {planned:,.0f} requests; one run may have {_MOST_REQUESTS:,}.",
                    EXIT_USAGE,
                )
            if round((self.rate_per_s + end) / 2 * self.duration_s) < 1:
                raise LoadgenError("--rate times --duration makes less than one request.", EXIT_USAGE)
        elif self.rate_end_per_s is not None:
            raise LoadgenError("--rate-end needs --rate: it is where a ramp ends.", EXIT_USAGE)
        if self.requests is not None and (self.concurrency is None or not 1 <= self.requests <= _MOST_REQUESTS):
            raise LoadgenError(
                f"--requests must lie between 1 and {_MOST_REQUESTS:,} and needs --concurrency.", EXIT_USAGE
            )
        if not 0.1 <= self.burstiness <= 20:
            raise LoadgenError(f"--burstiness must lie between 0.1 and 20, not {self.burstiness:g}.", EXIT_USAGE)
        if self.target.is_stream and not is_name(self.model):
            raise LoadgenError(f"--model {self.model!r} is not a name that a stream can have.", EXIT_USAGE)
        for name, value in (("--max-in-flight", self.max_in_flight), ("--connections", self.connections)):
            if value < 1:
                raise LoadgenError(f"{name} must be at least 1, not {value}.", EXIT_USAGE)
        if self.concurrency is not None and not 1 <= self.concurrency <= min(self.max_in_flight, self.connections):
            raise LoadgenError(
                f"--concurrency must lie between 1 and --max-in-flight and --connections, not {self.concurrency}.",
                EXIT_USAGE,
            )
        if self.target.is_stream and self.workload is not None and self.workload.api != "native":
            raise LoadgenError(
                "A stream takes no requests of OpenAI's API; give the front end's --url http://…", EXIT_USAGE
            )
        if self.duration_s <= 0 or self.timeout_s <= 0:
            raise LoadgenError("--duration and --timeout must be above 0.", EXIT_USAGE)

    @property
    def asks_openai(self) -> bool:
        """Whether requests go to OpenAI's API, which servers have that know nothing else of ours."""
        return self.workload is not None and self.workload.api == "openai"

    @property
    def path(self) -> str:
        """What requests are sent to."""
        below = None if self.workload is None else _path_of(self.workload)
        return self.target.predict_path(self.model) if below is None else self.target.openai_path(below)

    def encode(self, payload: Payload) -> bytes:
        """Return the request for a payload, head and body, as the bytes that go over the wire."""
        authorization = f"Authorization: Bearer {self.target.key}\r\n" if self.target.key else ""
        head = (
            f"POST {self.path} HTTP/1.1\r\n"
            f"Host: {self.target.host_header}\r\n"
            f"User-Agent: headrace-loadgen\r\n"
            f"Accept: {self.accept}\r\n"
            f"{authorization}"
            f"Content-Type: {payload.content_type}\r\n"
            f"Content-Length: {len(payload.body)}\r\n\r\n"
        )
        return head.encode("ascii") + payload.body


def default_warmup_s(duration_s: float) -> float:
    """A tenth of the measured time, at most 5 s: long enough for connections and caches, short enough for CI."""
    return min(5.0, duration_s / 10)


def api_key(environment: Mapping[str, str], variable: str | None = None) -> str | None:
    """Return the API key to send, or None when there is none.

    Args:
        variable: that holds it instead of `HEADRACE_API_KEY`; it must be there.

    Raises:
        LoadgenError: usage, when no header can carry it, or there is no such variable; the sentence does not show it.
    """
    name = variable or API_KEY
    key = environment.get(name, "")
    if key and not _API_KEY_VALUE.fullmatch(key):
        raise LoadgenError(f"{name} must be printable ASCII without spaces.", EXIT_USAGE)
    if variable is not None and not key:
        raise LoadgenError(f"--key-env names the variable {variable}, which is not set.", EXIT_USAGE)
    return key or None


def is_address(text: str) -> bool:
    """Whether a text is meant as an address, and not as a folder or a revision."""
    return "://" in text


def parse_target(url: str, key: str | None = None) -> Target:
    """Return the target an address such as `http://127.0.0.1:8000` names.

    Args:
        key: what an HTTP service is to be sent as API key.

    Raises:
        LoadgenError: usage, for anything that is neither a plain http address nor redis://host:port.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (6379 if parts.scheme == "redis" else 80)
    except ValueError:
        raise LoadgenError(f"{url!r} is not an address; write http://127.0.0.1:8000.", EXIT_USAGE) from None
    host = parts.hostname or ""
    if parts.scheme == "redis":
        return _stream_target(url, parts, host, port)
    if parts.scheme == "https":
        raise LoadgenError(
            f"{url!r} is not a plain http address, and the load generator speaks no TLS; write http://127.0.0.1:8000.",
            EXIT_USAGE,
        )
    plain = parts.scheme == "http" and not parts.query and not parts.fragment and parts.username is None
    if not plain or not _HOST_NAME.fullmatch(host):
        raise LoadgenError(f"{url!r} is not a plain http address; write http://127.0.0.1:8000.", EXIT_USAGE)
    path = parts.path.rstrip("/").removesuffix("/v1")  # as clients of OpenAI's API write an address
    return Target(url=url, host=host, port=port, prefix=quote(path, safe="/%"), key=key)


def _stream_target(url: str, parts: SplitResult, host: str, port: int) -> Target:
    database = parts.path.strip("/") or "0"
    if not _HOST_NAME.fullmatch(host) or not database.isdecimal() or parts.query or parts.fragment:
        raise LoadgenError("A stream's address is written redis://host:port/0.", EXIT_USAGE)
    user, word = (None if part is None else unquote(part) for part in (parts.username or None, parts.password))
    return Target(url, host, port, "", True, user, word, int(database))


def guess_content_type(path: Path) -> str:
    """Return the media type for a file name's suffix; anything unknown is one raw tensor."""
    return CONTENT_TYPES.get(path.suffix.lower(), OCTET_STREAM)


def load_payloads(paths: tuple[Path, ...], content_type: str | None = None) -> tuple[Payload, ...]:
    """Read every named file, and every file directly inside each named directory, in order of name.

    Raises:
        LoadgenError: usage, when a path cannot be read or nothing is found.
    """
    if content_type is not None and not _MEDIA_TYPE.fullmatch(content_type):
        raise LoadgenError(f"--content-type {content_type!r} is not a media type such as image/jpeg.", EXIT_USAGE)
    files: list[Path] = []
    try:
        for path in paths:
            inside = sorted(child for child in path.iterdir() if child.is_file()) if path.is_dir() else [path]
            files += [child for child in inside if child == path or not child.name.startswith(".")]
        loaded = tuple(
            Payload(name=file.name, content_type=content_type or guess_content_type(file), body=file.read_bytes())
            for file in files
        )
    except OSError as error:
        raise LoadgenError(f"Cannot read the payload {error.filename}: {error.strerror}.", EXIT_USAGE) from error
    if not loaded:
        raise LoadgenError(f"No files in {', '.join(map(str, paths))} to send.", EXIT_USAGE)
    return loaded


def made_payloads(workload: Workload, model: str) -> tuple[Payload, ...]:
    """Return the requests of a workload, numbered."""
    from .workloads.bodies import make_bodies

    return tuple(
        Payload(f"{workload.kind} {number + 1}", body.content_type, body.data, body.texts)
        for number, body in enumerate(make_bodies(workload, model))
    )


def _path_of(workload: Workload) -> str | None:
    from .workloads.bodies import path_of

    return path_of(workload)
