"""A consumer like any other, but its null generator says the time: ``python -m tests.perf.programs.timed_generator``.

Each token's text is when its step ended, by the clock that all processes of a machine share (``time.monotonic``), so a
client knows how long it was on its way.
"""

from __future__ import annotations

import gc
import time

from consumer.__main__ import main
from consumer.generation.engine import Step
from consumer.generation.null_engine import NullEngine
from consumer.models.generate import null
from shared.process import standard_streams


class TimedEngine(NullEngine):
    """A null engine whose tokens say when they were made, in microseconds."""

    def step(self) -> list[Step]:
        """See the interface."""
        steps = super().step()
        text = f"{time.monotonic() * 1e6:.0f} "
        return [step._replace(text=text) for step in steps]


if __name__ == "__main__":
    standard_streams.secure()
    gc.set_threshold(50_000, 50, 100)
    setattr(null, "NullEngine", TimedEngine)  # noqa: B010
    main()
