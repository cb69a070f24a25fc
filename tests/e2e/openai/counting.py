"""A consumer like any other, but each token of its null generator is the number of the step that made it."""

from __future__ import annotations

from itertools import count

from consumer.__main__ import main
from consumer.generation.engine import Step
from consumer.generation.null_engine import NullEngine
from consumer.models.generate import null
from shared.process import standard_streams

_numbers = count(1)


class Counting(NullEngine):
    """Numbers its steps; those without a sequence do not count."""

    def step(self) -> list[Step]:
        """See the interface."""
        steps = super().step()
        text = f"{next(_numbers)} " if steps else ""
        return [step._replace(text=text) for step in steps]


if __name__ == "__main__":
    standard_streams.secure()
    setattr(null, "NullEngine", Counting)  # noqa: B010
    main()
