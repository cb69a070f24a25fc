"""Logging of every process, to stderr in one format: text for people, JSON for a collector of logs.

A line about one request names it: ``log.error("...", extra=about(request.id, request.traceparent))``. Addresses lose
their passwords on the way out, wherever a message got them from.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

from shared.modules import PREFIX
from shared.wire.trace_context import trace_id

from . import standard_streams

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

OURS = ("headrace",) if PREFIX else ("consumer", "headrace", "loadgen", "producer_api", "shared")
"""What the names of our loggers begin with."""

LONGEST = 64 * 1024
"""Characters of one message or traceback that are written."""

_handler: logging.Handler | None = None
_level = "INFO"

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {0x0A: "\\n"}
_TERMINAL_CONTROLS = {code: text for code, text in _CONTROLS.items() if code not in (0x09, 0x0A)}

_SECRET = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]*://)[^\s/]*@")
_SECRET_PARAMETER = re.compile(r"([?&](?:\w*password|\w*username|\w*secret|\w*token)=)[^\s&#]*")


def about(request_id: str, traceparent: str | None = None) -> dict[str, str]:
    """Return the ``extra`` of a log call: which request, and which trace if it belongs to one."""
    found = trace_id(traceparent)
    return {"request_id": request_id, "trace_id": found} if found else {"request_id": request_id}


def without_secrets(text: str) -> str:
    """Return ``text`` with users and passwords of addresses replaced, those among their parameters too."""
    if "://" not in text:
        return text
    return _SECRET_PARAMETER.sub(r"\1***", _SECRET.sub(r"\1***@", text))


def bounded(text: str) -> str:
    """Return ``text`` without its middle if it is very long: an exception may quote a whole file, and loses the line
    behind it then."""
    left_out = len(text) - LONGEST
    if left_out <= 0:
        return text
    return f"{text[: LONGEST * 3 // 4]} [{left_out} characters left out] {text[-LONGEST // 4 :]}"


def _named(record: logging.LogRecord) -> dict[str, str]:
    return {name: value for name in ("request_id", "trace_id") if (value := getattr(record, name, None)) is not None}


class TextFormatter(logging.Formatter):
    """For people. A request's ids stand at the end unless the sentence has them already.

    Args:
        one_line: tracebacks stay on the line of their event, so that lines of several processes can be mixed.
    """

    def __init__(self, *, one_line: bool) -> None:
        super().__init__(FORMAT)
        self._one_line = one_line

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Add the ids before the traceback. What a client sent can neither begin a line nor speak to a terminal."""
        line = bounded(super().formatMessage(record)).translate(_CONTROLS)
        ids = [f"{name}={value}" for name, value in _named(record).items() if value not in line]
        return f"{line} [{' '.join(ids)}]" if ids else line

    def formatException(self, ei: Any) -> str:
        """Return the traceback."""
        return bounded(super().formatException(ei))

    def format(self, record: logging.LogRecord) -> str:
        """Return what is written."""
        text = without_secrets(super().format(record)).translate(_TERMINAL_CONTROLS)
        return text.replace("\n", "\\n") if self._one_line else text


class JsonFormatter(logging.Formatter):
    """One JSON object per line.

    Members: time, level, logger, process and message; where there is one, request_id, trace_id and exception.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return what is written."""
        members: dict[str, str | int] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process or 0,
            "message": without_secrets(bounded(record.getMessage())),
            **_named(record),
        }
        if record.exc_info:
            members["exception"] = without_secrets(bounded(self.formatException(record.exc_info)))
        return json.dumps(members, ensure_ascii=False)


def _named_as_in_a_checkout(record: logging.LogRecord) -> bool:
    record.name = record.name.removeprefix(PREFIX)
    return True


def configure(level: str, form: str, *, one_line: bool = False) -> None:
    """Send log records at ``level`` (debug, info, warning, error) and above to stderr, as ``text`` or ``json``."""
    global _handler, _level
    _level = level.upper()
    _handler = logging.StreamHandler(standard_streams.own_stderr() or sys.stderr)
    if PREFIX:
        _handler.addFilter(_named_as_in_a_checkout)
    _handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter(one_line=one_line))
    logging.basicConfig(level=_level, handlers=[_handler], force=True)


def put_back() -> None:
    """Undo what foreign code has done to our own loggers since :func:`configure`; its own stay as it wants them.

    ``logging.config.dictConfig`` switches off all loggers that it does not know, by default.
    """
    if _handler is None:
        return
    logging.disable(logging.NOTSET)
    for name in OURS:
        logging.getLogger(name).setLevel(_level)
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.partition(".")[0] in OURS and isinstance(logger, logging.Logger):
            logger.disabled = False
            logger.propagate = True
    if _handler not in logging.root.handlers:
        logging.root.addHandler(_handler)
