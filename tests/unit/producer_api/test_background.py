"""Tasks that run as long as the process does."""

from __future__ import annotations

import asyncio

import pytest

from producer_api.background import forever


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), KeyError("x"), asyncio.CancelledError()])
def test_whatever_ends_the_work_it_is_logged_and_begins_anew(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    begun: list[int] = []

    async def work() -> None:
        begun.append(len(begun))
        if len(begun) < 4:
            raise error

    asyncio.run(forever("The work", work, lambda: len(begun) == 4, retry_s=0))
    assert begun == [0, 1, 2, 3]
    assert [record.message.startswith("The work") for record in caplog.records] == [True] * 3


@pytest.mark.parametrize("is_over", [True, False])
def test_it_ends_when_it_is_cancelled(is_over: bool) -> None:
    async def scenario() -> None:
        begun = asyncio.Event()

        async def work() -> None:
            begun.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(forever("The work", work, lambda: is_over and begun.is_set()))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_work_that_is_over_is_not_begun() -> None:
    async def work() -> None:
        raise AssertionError

    asyncio.run(forever("The work", work, lambda: True))
