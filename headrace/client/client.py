"""The synchronous client of the REST API [I/O]."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

from .answers import Answer
from .attempts import Attempts, Retries
from .bodies import Sendable
from .events import Events
from .exchange import Call, Flow, Lost, Pause, Received, error_of, pause_of_refusal
from .later import Later
from .models import ModelSummary
from .rest import Rest, checked_url
from .transport import httpx, lost, options_of, pool

T = TypeVar("T")

TIMEOUT_S = 10.0


class Client:
    """A client of the REST API. Keep one for the whole program: it keeps connections, and any thread may use it.

    Each request has an id of its own, so that trying again never runs it twice: the front end joins a repeat with the
    request that is in progress, or answers with what is stored.

    Args:
        url: ``http://host:8000`` or ``https://…``.
        api_key: where the service requires one (docs/security.md).
        retries: when to try again; see :class:`Retries`.
        verify: False trusts any certificate; the path of a file, those certificates in it.
        connections: how many are open at most; more requests at once wait for one.

    Raises:
        ValueError: an argument cannot be used.
        ImportError: the HTTP library is missing: ``pip install 'headrace[client]'``.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        retries: Retries | None = None,
        verify: bool | str = True,
        connections: int = 100,
    ) -> None:
        self._url, self._rest = checked_url(url), Rest(api_key, retries or Retries())
        self._http = httpx().Client(**pool(verify, connections))

    def predict(
        self,
        model: str,
        body: Sendable | None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        content_type: str | None = None,
        timeout_s: float = TIMEOUT_S,
        top_k: int | None = None,
        truncate: bool = False,
        request_id: str | None = None,
        explain: bool = False,
    ) -> Answer:
        """Ask a model and wait for its answer.

        Args:
            body: bytes, a text, or the path of a file. Either this or ``inputs``.
            inputs: the values of each input by its name: arrays, texts, numbers, lists of these; one row, or several
                in one dimension more.
            content_type: of ``body``; without it bytes are ``application/octet-stream``, texts ``text/plain``, and
                files what their name says.
            timeout_s: for all attempts together. A request that has not begun to run by then never runs.
            top_k: how many classes a classifier returns.
            truncate: cut texts that are longer than the model's context.
            request_id: your own name for the request: 1 to 64 letters, digits, ``_`` or ``-``. The same name gets the
                same answer as long as it is stored, also from another process.
            explain: have the answer's ``timing`` say where all of the time went.

        Raises:
            HeadraceError: there is no answer; its ``code`` says why.
            ValueError: an argument cannot be sent.
        """
        flow = self._rest.predict(
            time.monotonic(),
            model,
            body,
            inputs=inputs,
            content_type=content_type,
            timeout_s=timeout_s,
            top_k=top_k,
            truncate=truncate,
            request_id=request_id,
            explain=explain,
        )
        return self._run(flow)

    def generate(
        self,
        model: str,
        prompt: str | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        timeout_s: float = 60.0,
        **options: Any,
    ) -> Iterator[str]:
        """Generate a text and yield its parts as they are made. Leaving the loop early cancels the request.

        Args:
            prompt: a text to go on with. Either this or ``messages``.
            messages: of a chat: mappings with ``role`` and ``content``.
            timeout_s: until the text begins, and between two of its parts.
            options: ``max_tokens``, ``temperature``, ``seed``, ``stop``, … (docs/protocol.md, generations).

        Raises:
            HeadraceError: there is no text, or it broke off. Only what was refused before it ran is tried again.
            ValueError: an argument cannot be sent.
        """
        call = self._rest.generation(model, prompt, messages, options, timeout_s)
        return self._texts(call, self._rest.attempts(time.monotonic(), timeout_s))

    def _texts(self, call: Call, attempts: Attempts) -> Iterator[str]:
        while True:
            try:
                with self._http.stream(call.method, self._url + call.path, **options_of(call)) as response:
                    if response.status_code == 200:
                        events = Events()
                        for piece in response.iter_raw():
                            yield from events.read(piece)
                        return events.end()
                    found = Received(response.status_code, response.headers, response.read())
            except httpx().TransportError as error:
                raise error_of(lost(error), None, call.timeout_s) from None
            time.sleep(pause_of_refusal(found, attempts, time.monotonic()))

    def models(self, *, timeout_s: float = TIMEOUT_S) -> tuple[ModelSummary, ...]:
        """List the models, by name.

        Raises:
            HeadraceError: there is no answer.
        """
        return self._run(self._rest.models(time.monotonic(), timeout_s))

    def later(
        self,
        model: str,
        body: Sendable | None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        content_type: str | None = None,
        timeout_s: float = TIMEOUT_S,
        top_k: int | None = None,
        truncate: bool = False,
        request_id: str | None = None,
        begin_within_s: float | None = None,
        keep_s: float | None = None,
        webhook: str | None = None,
    ) -> Later:
        """Hand a request in whose answer you fetch later, with :meth:`result` (docs/later.md).

        Args:
            timeout_s: until the request is accepted.
            begin_within_s: until when it must begin to run, up to seven days; the service has a default.
            keep_s: how long its result is kept, up to seven days; the service has a default.
            webhook: address that is notified of the end (docs/webhooks.md).

        Raises:
            HeadraceError: it was not accepted.
            ValueError: an argument cannot be sent.
        """
        flow = self._rest.later(
            time.monotonic(),
            model,
            body,
            inputs=inputs,
            content_type=content_type,
            timeout_s=timeout_s,
            top_k=top_k,
            truncate=truncate,
            request_id=request_id,
            begin_within_s=begin_within_s,
            keep_s=keep_s,
            webhook=webhook,
        )
        return self._run(flow)

    def result(self, model: str, request_id: str, *, timeout_s: float = 60.0) -> Answer:
        """Wait for the answer to a request that was handed in, or that had a ``request_id`` of yours.

        Raises:
            HeadraceError: it ended without one; ``unknown_outcome`` if it has not ended within ``timeout_s``: ask
                again.
        """
        return self._run(self._rest.result(time.monotonic(), model, request_id, timeout_s))

    def cancel(self, model: str, request_id: str, *, timeout_s: float = TIMEOUT_S) -> bool:
        """Take a request back.

        Returns:
            Whether it was cancelled; False when there is an answer already.

        Raises:
            HeadraceError: there is no such request, or no answer.
        """
        return self._run(self._rest.cancel(time.monotonic(), model, request_id, timeout_s))

    def _run(self, flow: Flow[T]) -> T:
        step = next(flow)
        try:
            while True:
                found = None
                if isinstance(step, Pause):
                    time.sleep(step.pause_s)
                else:
                    found = self._send(step)
                step = flow.send((time.monotonic(), found))
        except StopIteration as end:
            answer: T = end.value
            return answer

    def _send(self, call: Call) -> Received | Lost:
        until_s = time.monotonic() + call.timeout_s
        try:
            with self._http.stream(call.method, self._url + call.path, **options_of(call)) as response:
                pieces = []
                for piece in response.iter_raw():
                    pieces.append(piece)
                    if time.monotonic() > until_s:
                        return Lost("The answer came too slowly.", is_late=True)
                return Received(response.status_code, response.headers, b"".join(pieces))
        except httpx().TransportError as error:
            return lost(error)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
