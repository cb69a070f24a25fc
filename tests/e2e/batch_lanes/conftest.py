"""A stack with a batch lane ``nightly`` and an ordinary one ``gold``, without API keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shared import keys
from shared.redis.client import connect
from shared.state.lanes import BATCH, PAUSED, kind_field, paused_field
from tests.e2e.bulk.site import MODELS, Site
from tests.helpers import eventually

SLOW = '\n[models.slow]\nfamily = "python"\nentry = "tests.e2e.batch_lanes.slow:create"\nmax_batch = 4\n'
NIGHTLY = "nightly"


class Lanes(Site):
    """The stack."""

    def make_lanes(self, model: str, limit: int = 2000) -> None:
        """Make the two lanes, and wait until the front end knows them."""
        with connect(self.server.url) as client:
            made = {NIGHTLY: f"{limit},1", kind_field(NIGHTLY): BATCH, "gold": "100,1"}
            client.hset(keys.lanes(model), mapping=made)
            eventually(lambda: client.exists(keys.work(model, NIGHTLY)) or None)
        eventually(lambda: self.predict(model, b"\xff\xd8\xff", Headrace_Lane=NIGHTLY) == 200 or None)

    def predict(self, model: str, body: bytes, query: str = "", **headers: str) -> int:
        """Ask for one answer; returns the status."""
        return self.ask("POST", f"/v1/models/{model}/predict{query}", body, Content_Type="image/jpeg", **headers).status

    @contextmanager
    def paused(self, model: str) -> Iterator[None]:
        """Have consumers claim nothing of the batch lane meanwhile."""
        field = paused_field(NIGHTLY)
        with connect(self.server.url) as client:
            client.hset(keys.lanes(model), field, PAUSED)
            try:
                # what it has read before is answered; then nothing is
                eventually(
                    lambda: self.predict(model, b"\xff\xd8\xff", "?timeout_ms=700", Headrace_Lane=NIGHTLY) == 504
                )
                yield
            finally:
                client.hdel(keys.lanes(model), field)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    with Lanes(tmp_path_factory.mktemp("lanes")) as running:
        (running.folder / "models.toml").write_text(MODELS + SLOW)
        running.start("slow", MAX_IN_FLIGHT="16")
        running.make_lanes("slow")
        yield running
