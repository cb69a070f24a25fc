"""`headrace probe`: whether a front end or a consumer on this machine can do its work [I/O].

For health checks of containers, and for people. It asks the process itself, through no proxy, within a bounded time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from headrace.asking import local_http
from headrace.exit_codes import EXIT_DONE, EXIT_FAILED, EXIT_TIMEOUT
from shared.settings import Settings, SettingsError

FRONT_END: Final = "front-end"
CONSUMER: Final = "consumer"


@dataclass(frozen=True, slots=True)
class Question:
    """The address and path of a probe."""

    part: str
    host: str
    port: int
    path: str
    tls: bool


def question(settings: Settings, part: str, index: int | None, port: int | None, alive: bool) -> Question:
    """Work out the address and path of a probe. Pure.

    Args:
        index: number of the consumer; of a front end among those on its port, None for whichever answers there.
        port: instead of the settings' one.
        alive: ask only whether it runs.

    Raises:
        SettingsError: the settings do not say on which port it listens.
    """
    path = "/healthz" if alive else "/readyz"
    if part == CONSUMER:
        first, host, tls, name = settings.metrics_port, settings.metrics_host, False, "HEADRACE_METRICS_PORT"
        chosen = first and first + (index or 0)
    elif index is not None:
        first, host, tls = settings.api_metrics_port or 0, settings.metrics_host, False
        chosen, name = first and first + index, "HEADRACE_API_METRICS_PORT"
    else:
        chosen, host, name = settings.port, settings.host, "HEADRACE_PORT"
        tls = settings.tls_cert_file is not None
    chosen = chosen if port is None else port
    if not 0 < chosen <= 65535:
        raise SettingsError(f"{name} does not say which port to ask ({chosen}); name it with --port.")
    return Question(part, local_http.reachable(host), chosen, path, tls)


def run(question: Question, limit_s: float) -> tuple[int, str]:
    """Ask, and return the exit code with a sentence."""
    where = f"The {question.part} at {question.host} port {question.port}"
    try:
        answer = local_http.ask(question.host, question.port, question.path, limit_s, tls=question.tls)
    except local_http.NoAnswer as error:
        return EXIT_TIMEOUT, f"{where} does not answer: {error}."
    if answer.status == 200:
        return EXIT_DONE, f"{where} is {'alive' if question.path == '/healthz' else 'ready'}."
    if answer.status == 503:
        return EXIT_FAILED, f"{where} is not ready. {_reasons(answer.body)}".rstrip()
    return EXIT_FAILED, f"{where} answers with status {answer.status}; it is none of ours, or of another version."


def _reasons(body: bytes) -> str:
    """Return what the answer says of why, on one line."""
    try:
        reasons = json.loads(body)["reasons"]
        text = " ".join(reason for reason in reasons if isinstance(reason, str))
    except (ValueError, KeyError, TypeError):
        text = body.decode(errors="replace")
    return "".join(one if one.isprintable() else " " for one in text[:1000]).strip()


def is_loaded(settings: Settings, index: int) -> bool:
    """Say whether the consumer of this number has loaded its model; takes a second at most."""
    try:
        return run(question(settings, CONSUMER, index, None, alive=False), 1.0)[0] == EXIT_DONE
    except SettingsError:
        return False
