"""The desired state of a model, set by an operator while it runs, and what a consumer reports about it.

It is a hash of the model (``keys.desired_state``). One part is a precision: consumers read it at each heartbeat,
switch one after the other, and publish their progress in their own hash. The other says whether the model is paused or
draining: consumers read that at each heartbeat, too, and front ends with their list of models.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from shared.names import is_name

PRECISION, TOKEN = "precision", "token"
"""Fields of the desired state: which precision, and a unique name of this change."""

DEFAULT = "default"
"""The precision that environment and models file say."""


SERVING = "serving"
"""Field of the desired state: a :class:`Serving`; without it the model is open."""


LATE = "late_s"
BODIES = "bodies"
VERSION = "version"
RUNNING, SLOTS, TOKENS_PER_S = "running", "slots", "tokens_per_s"
FULL_TOKENS_PER_S, ANSWER_TOKENS = "full_tokens_per_s", "answer_tokens"
HOST, BUSY, BATCH = "host", "busy", "batch"
FIXED_MS, PER_ROW_MS, UNIT = "fixed_ms", "per_row_ms", "unit"
"""Fields of a consumer's own hash: see :class:`WorkerState`."""


class Serving(StrEnum):
    """What a model does with requests.

    Attributes:
        OPEN: they are taken and answered.
        PAUSED: they are taken, up to the lane's limit, and consumers claim none.
        DRAINING: front ends refuse new ones, and consumers finish what is there.
    """

    OPEN = "open"
    PAUSED = "paused"
    DRAINING = "draining"


def serving_from(field: object) -> Serving:
    """Read the field ``SERVING``; whatever is not known means open."""
    return _SERVINGS.get(field, Serving.OPEN) if isinstance(field, bytes) else Serving.OPEN


_SERVINGS = {one.value.encode(): one for one in Serving}


class DesiredPrecision(msgspec.Struct, frozen=True):
    """A desired precision. Repeating a command is another change: its token is new."""

    precision: str
    token: str


class Progress(StrEnum):
    """How far a consumer is with the change whose token it publishes."""

    WAITING = "waiting"
    SWITCHING = "switching"
    DONE = "done"
    REFUSED = "refused"


def from_fields(precision: bytes | None, token: bytes | None) -> DesiredPrecision | None:
    """Read the two fields of a desired precision; None if one is missing."""
    if precision is None or token is None:
        return None
    name, mark = precision.decode(errors="replace"), token.decode(errors="replace")
    return DesiredPrecision(name, mark) if is_name(name) and is_name(mark) else None


class WorkerState(msgspec.Struct, frozen=True):
    """What a consumer publishes of itself in ``keys.worker``.

    Attributes:
        pid: its process.
        runtime: the library that runs the model, or ran it last while it switches; empty for code of its own.
        precision: likewise.
        preferred: rows beyond which a batch gets hardly more done, as measured; empty where that was not measured.
        loaded_s: for how many seconds it has run so; consumers that differ only because they switch in turns have not
            done so for long.
        why: one sentence on how that compares with fp32.
        token: of the change that ``progress`` is about; empty for none.
        progress: a ``Progress``; empty without a desired precision.
        refusal: one sentence if it was refused.
        serving: ``paused`` once it claims nothing more because the model is paused, else ``open``.
        late_s: for how many seconds it has held requests and answered none that it should have; empty while it answers.
        bodies: which folder of bodies in shared memory it reads (``bodies.py``); empty for none.
        version: of the model, as on the card that it publishes.
        running, slots: of a model that generates: sequences in its engine, and how many it takes; else empty.
        tokens_per_s: what it has generated per second lately; else empty.
        full_tokens_per_s: tokens of prompts and answers that it gets done in a second while every slot is taken; empty
            until that was measured.
        answer_tokens: how many it generates for a request on average; empty until one has ended.
        host: name of its machine.
        busy: share of the last ten seconds or so in which the device ran batches, 0 to 1.
        batch: mean rows of the batches of that time; empty where none ran.
        fixed_ms, per_row_ms: what a batch costs as it is fitted now, and what each ``unit`` adds to it; else empty.
        unit: what the cost grows with: ``row``, or what the model counts, such as ``token``.
    """

    pid: str = ""
    runtime: str = ""
    precision: str = ""
    preferred: str = ""
    loaded_s: str = ""
    device: str = ""
    why: str = ""
    token: str = ""
    progress: str = ""
    refusal: str = ""
    serving: str = ""
    late_s: str = ""
    bodies: str = ""
    version: str = ""
    running: str = ""
    slots: str = ""
    tokens_per_s: str = ""
    full_tokens_per_s: str = ""
    answer_tokens: str = ""
    host: str = ""
    busy: str = ""
    batch: str = ""
    fixed_ms: str = ""
    per_row_ms: str = ""
    unit: str = ""


def to_hash(state: WorkerState) -> dict[str, str]:
    """Encode for the heartbeat; every field is there, so that an old value never stays."""
    return dict(msgspec.structs.asdict(state))


def from_hash(fields: Mapping[bytes, bytes]) -> WorkerState:
    """Decode; what another version leaves out is empty, what it adds is ignored."""
    known = {name: fields.get(name.encode(), b"").decode(errors="replace") for name in WorkerState.__struct_fields__}
    return WorkerState(**known)
