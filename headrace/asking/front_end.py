"""A front end as commands ask it over HTTP [I/O]. They ask it directly: nothing here goes through a proxy."""

from __future__ import annotations

import http.client
import json
import os
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any, Final
from urllib.parse import quote, urlsplit

from headrace.exit_codes import EXIT_FAILED, EXIT_REFUSED, EXIT_TIMEOUT, EXIT_USAGE
from headrace.table import nearest, printable
from shared.settings import Settings

from .address import base_url

API_KEY: Final = "HEADRACE_API_KEY"
"""The variable with the API key; an option would show it to every user of the machine."""

TIMEOUT_S: Final = 60.0
MOST_ANSWER_BYTES: Final = 256 << 20
MOST_SENTENCE: Final = 1000


class FrontEndError(Exception):
    """The front end refuses, or nobody answers; one sentence.

    Attributes:
        exit_code: what the command ends with.
        code: the code of the front end's error, empty where none came.
    """

    def __init__(self, sentence: str, exit_code: int, code: str = "") -> None:
        super().__init__(sentence)
        self.exit_code, self.code = exit_code, code


class FrontEnd:
    """One front end, asked on a connection for each question.

    Args:
        url: its address, with or without a path before ``/v1``.
        key: the API key, empty for none.
        timeout_s: how long it may be silent.

    Raises:
        FrontEndError: ``url`` is no such address.
    """

    def __init__(self, url: str, key: str, timeout_s: float = TIMEOUT_S) -> None:
        try:
            self._address = urlsplit(url)
            usable = self._address.scheme in ("http", "https") and bool(self._address.hostname)
            usable = usable and (self._address.port or 1) > 0 and url.isprintable()
        except ValueError:
            usable = False
        if not usable:
            said = printable(url[:200])
            raise FrontEndError(f"--url is an address such as http://127.0.0.1:8000, not {said!r}.", EXIT_USAGE)
        if not key.isascii() or not key.isprintable():
            raise FrontEndError(f"{API_KEY} holds characters that no header can carry.", EXIT_USAGE)
        self._key, self._timeout_s = key, timeout_s

    @property
    def where(self) -> str:
        """Return its address without a path, and without a password."""
        return f"{self._address.scheme}://{self._address.netloc.rpartition('@')[2]}"

    def ask(
        self, method: str, path: str, body: IO[bytes] | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """Ask; the caller reads the answer.

        Raises:
            FrontEndError: the front end refuses, or nobody answers.
        """
        connection, given = self._connection(), dict(headers or {})
        if self._key:
            given["Authorization"] = f"Bearer {self._key}"
        if body is not None and not isinstance(body, bytes):
            given["Content-Length"] = str(os.fstat(body.fileno()).st_size)
        try:
            # What refuses a body answers while it is still being sent, and then closes.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, self._address.path.rstrip("/") + path, body, given)
            answer = connection.getresponse()
            if answer.status < 400:
                return answer
            said = answer.read(MOST_ANSWER_BYTES)
        except TimeoutError:
            connection.close()
            told = f"The front end at {self.where} did not answer within {self._timeout_s:g} s."
            raise FrontEndError(told, EXIT_TIMEOUT) from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise FrontEndError(f"No front end answers at {self.where}: {why}.", EXIT_FAILED) from None
        connection.close()
        raise refusal(answer.status, said)

    def json(self, method: str, path: str, **more: Any) -> Any:
        """Ask, and read the answer as JSON.

        Raises:
            FrontEndError: as for :meth:`ask`, or it is no JSON.
        """
        try:
            answer = self.ask(method, path, **more)
            with answer:
                return json.loads(answer.read(MOST_ANSWER_BYTES))
        except (ValueError, RecursionError, OSError, http.client.HTTPException) as error:
            raise FrontEndError(f"The answer of {self.where} cannot be read: {error}.", EXIT_FAILED) from None

    def models(self) -> list[str]:
        """Return the names of the models that it knows.

        Raises:
            FrontEndError: as for :meth:`json`, or it is no list of models.
        """
        try:
            return [str(one["name"]) for one in self.json("GET", "/v1/models")["models"]]
        except (KeyError, TypeError):
            raise FrontEndError(f"{self.where} lists no models; it is no Headrace.", EXIT_FAILED) from None

    def with_nearest(self, error: FrontEndError, model: str) -> FrontEndError:
        """Return ``error`` with the model that may have been meant, where it says that there is no such model."""
        if error.code != "unknown_model":
            return error
        try:
            names = self.models()
        except FrontEndError:
            return error
        return FrontEndError(no_such_model(model, names), EXIT_USAGE, error.code)

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._address.hostname or "", self._address.port
        if self._address.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=context)
        return http.client.HTTPConnection(host, port, timeout=self._timeout_s)


def opened(url: str | None, environment: Mapping[str, str], timeout_s: float = TIMEOUT_S) -> FrontEnd:
    """Return the front end at ``url``, else the one that the settings describe.

    Raises:
        FrontEndError: ``url`` is no address.
        SettingsError: there is none, and a setting is wrong or says no port.
    """
    address = base_url(Settings.from_env(environment)) if url is None else url
    return FrontEnd(address, environment.get(API_KEY, ""), timeout_s)


def path_of(model: str, rest: str = "") -> str:
    """Return the path of what a model has."""
    return f"/v1/models/{quote(model, safe='')}{rest}"


def no_such_model(model: str, names: list[str]) -> str:
    """Say that there is no such model, which one may have been meant, and which there are."""
    there = ", ".join(sorted(names)[:20]) or "none"
    return f"There is no model {printable(model[:64])!r}; there are: {there}.{nearest(model, names)}"


def refusal(status: int, body: bytes) -> FrontEndError:
    """Return what an answer with an error says. Pure."""
    try:
        error = json.loads(body)["error"]
        message, code = str(error["message"])[:MOST_SENTENCE], str(error["code"])[:64]
    except (ValueError, KeyError, TypeError, RecursionError):
        return FrontEndError(f"The front end answers with status {status}.", EXIT_REFUSED)
    exit_code = EXIT_USAGE if code == "unknown_model" else EXIT_REFUSED
    return FrontEndError(printable(f"{message} ({status} {code})"), exit_code, code)
