"""What happens in the life of a stack, as its supervisor takes it in."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from .child import Child, ChildSpec


@dataclass(frozen=True, slots=True)
class Ended:
    """A child ended; its exit code is known."""

    child: Child


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Someone pressed Ctrl-C or sent SIGTERM."""

    signal: signal.Signals


@dataclass(frozen=True, slots=True)
class RestartDue:
    """The back-off of a process that died is over."""

    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class LookDue:
    """A consumer that had died may live well again; ``loaded``: its model is loaded, None before anybody asked."""

    child: Child
    loaded: bool | None = None


@dataclass(frozen=True, slots=True)
class PatienceOver:
    """Some models have been ready for long; the others are not waited for any more."""


Event = Ended | StopAsked | RestartDue | LookDue | PatienceOver
