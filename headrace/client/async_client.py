"""The asyncio client of the REST API [I/O]."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self, TypeVar

from .answers import Answer
from .attempts import Attempts, Retries
from .bodies import Sendable
from .client import TIMEOUT_S
from .events import Events
from .exchange import Call, Flow, Lost, Pause, Received, error_of, pause_of_refusal
from .later import Later
from .models import ModelSummary
from .rest import Rest, checked_url
from .transport import httpx, lost, options_of, pool

T = TypeVar("T")


class AsyncClient:
    """As :class:`headrace.client.Client`, with the same arguments and errors, for asyncio.

    Keep one for as long as the event loop runs. A task that is cancelled stops waiting; its request goes on, and
    :meth:`cancel` takes it back if you gave it a ``request_id``.
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
        self._http = httpx().AsyncClient(**pool(verify, connections))

    async def predict(
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
        """See :meth:`headrace.client.Client.predict`."""
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
        return await self._run(flow)

    def generate(
        self,
        model: str,
        prompt: str | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        timeout_s: float = 60.0,
        **options: Any,
    ) -> AsyncIterator[str]:
        """See :meth:`headrace.client.Client.generate`; for ``async for``."""
        call = self._rest.generation(model, prompt, messages, options, timeout_s)
        return self._texts(call, self._rest.attempts(time.monotonic(), timeout_s))

    async def _texts(self, call: Call, attempts: Attempts) -> AsyncIterator[str]:
        while True:
            try:
                async with self._http.stream(call.method, self._url + call.path, **options_of(call)) as response:
                    if response.status_code == 200:
                        events = Events()
                        async for piece in response.aiter_raw():
                            for text in events.read(piece):
                                yield text
                        events.end()
                        return
                    found = Received(response.status_code, response.headers, await response.aread())
            except httpx().TransportError as error:
                raise error_of(lost(error), None, call.timeout_s) from None
            await asyncio.sleep(pause_of_refusal(found, attempts, time.monotonic()))

    async def models(self, *, timeout_s: float = TIMEOUT_S) -> tuple[ModelSummary, ...]:
        """See :meth:`headrace.client.Client.models`."""
        return await self._run(self._rest.models(time.monotonic(), timeout_s))

    async def later(
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
        """See :meth:`headrace.client.Client.later`."""
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
        return await self._run(flow)

    async def result(self, model: str, request_id: str, *, timeout_s: float = 60.0) -> Answer:
        """See :meth:`headrace.client.Client.result`."""
        return await self._run(self._rest.result(time.monotonic(), model, request_id, timeout_s))

    async def cancel(self, model: str, request_id: str, *, timeout_s: float = TIMEOUT_S) -> bool:
        """See :meth:`headrace.client.Client.cancel`."""
        return await self._run(self._rest.cancel(time.monotonic(), model, request_id, timeout_s))

    async def _run(self, flow: Flow[T]) -> T:
        step = next(flow)
        try:
            while True:
                found = None
                if isinstance(step, Pause):
                    await asyncio.sleep(step.pause_s)
                else:
                    found = await self._send(step)
                step = flow.send((time.monotonic(), found))
        except StopIteration as end:
            answer: T = end.value
            return answer

    async def _send(self, call: Call) -> Received | Lost:
        try:
            async with asyncio.timeout(call.timeout_s):
                response = await self._http.request(call.method, self._url + call.path, **options_of(call))
            return Received(response.status_code, response.headers, response.content)
        except TimeoutError:
            return Lost("No answer came in time.", is_late=True)
        except httpx().TransportError as error:
            return lost(error)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
