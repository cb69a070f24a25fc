"""Starts the processes of a stack in order, keeps them running, and stops them in the opposite order.

One thread and no locks: signals, the ends of children and restarts that are due all become events of one queue, and
whatever part of the life is under way (bringing up, watching, stopping) takes them from there.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .child import Child, ChildSpec, Stage
from .console import Console
from .guardian_link import GuardianLink
from .restarts import GiveUp, RestartPolicy

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_READY_POLL_S = 0.02
_HURRIED_REDIS_S = 2.0
# Some parents (`timeout`, a shell script) pass one Ctrl-C on twice within an instant; only a later one means "hurry".
_SAME_STOP_S = 0.2


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


Event = Ended | StopAsked | RestartDue


class Supervisor:
    """The life of one stack.

    Args:
        services: processes that must run; started from the last stage to the first.
        probes: processes started after them, which must all end with 0 before the stack counts as ready.
        environment: environment of every child.
        cwd: working directory of every child.
        console: where output and reports go.
        new_policy: makes the restart policy of each service.
        ready_limit_s: longest wait for a service's ``ready``.
    """

    def __init__(
        self,
        services: Sequence[ChildSpec],
        probes: Sequence[ChildSpec],
        environment: Mapping[str, str],
        cwd: str,
        console: Console,
        new_policy: Callable[[], RestartPolicy] = RestartPolicy,
        ready_limit_s: float = 60.0,
    ) -> None:
        self._services = sorted(services, key=lambda spec: -spec.stage)
        self._probes = list(probes)
        self._environment = environment
        self._cwd = cwd
        self._console = console
        self._policies = {spec.name: new_policy() for spec in services}
        self._ready_limit_s = ready_limit_s
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._running: list[Child] = []
        self._guardian: GuardianLink | None = None
        self._stop_asked_s = float("-inf")

    async def run(self, on_ready: Callable[[], None]) -> int:
        """Bring the stack up, call ``on_ready``, keep it running, and return the exit code once all has stopped.

        0 after Ctrl-C or SIGTERM; the code of a child that died before the stack was ready; 1 when a process kept
        dying.
        """
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self._stop_asked, number)
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        guardian = self._guardian = GuardianLink()
        try:
            code = await self._bring_up()
            if code is None:
                on_ready()
                code = await self._watch()
        finally:
            await self._stop_all()
            guardian.close()
            # All is done: one more Ctrl-C between here and the exit must not turn into a traceback.
            signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        return code

    async def _bring_up(self) -> int | None:
        for spec in self._services:
            child = self._start(spec)
            if child is None:
                return 1
            if spec.ready is not None and (code := await self._until_ready(child, spec.ready)) is not None:
                return code
        waiting = [child for spec in self._probes if (child := self._start(spec)) is not None]
        while waiting:
            code = self._ends_early(await self._events.get(), waiting)
            if code is not None:
                return code
        return None

    async def _until_ready(self, child: Child, ready: Callable[[], bool]) -> int | None:
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + self._ready_limit_s
        while not ready():
            event = await self._next_event(_READY_POLL_S)
            if event is not None:
                return self._ends_early(event, [])
            if loop.time() > give_up_s:
                self._console.say(f"headrace: {child.spec.name} did not answer within {self._ready_limit_s:g} s.")
                return 1
        return None

    def _ends_early(self, event: Event, waiting: list[Child]) -> int | None:
        """Exit code that ``event`` means before the stack is ready; None when a probe of ``waiting`` succeeded."""
        if not isinstance(event, Ended):
            self._console.say("headrace: stopping before the stack was ready.")
            return 0
        child = event.child
        if child in waiting and child.exit_code == 0:
            waiting.remove(child)
            return None
        self._console.say(
            f"headrace: {child.spec.name} ended with code {child.exit_code} before the stack was ready. "
            + ("Its last lines:" if child.last_lines else "It printed nothing.")
        )
        for line in child.last_lines:
            self._console.say(f"    {line}")
        return child.exit_code or 1

    async def _watch(self) -> int:
        while True:
            event = await self._events.get()
            if isinstance(event, StopAsked):
                self._console.say("\nheadrace: stopping (once more to hurry).")
                return 0
            if isinstance(event, RestartDue):
                if self._start(event.spec) is None:
                    return 1
            elif not self._survives(event.child):
                return 1

    def _survives(self, child: Child) -> bool:
        """Report the death of ``child`` and arrange its restart; False when it died too often."""
        loop = asyncio.get_running_loop()
        policy = self._policies.get(child.spec.name)
        if policy is None:
            return True
        name, decision = child.spec.name, policy.died(loop.time())
        if isinstance(decision, GiveUp):
            self._console.say(
                f"headrace: {name} ended with code {child.exit_code}, {decision.deaths} times within "
                f"{policy.window_s:g} s; starting it again does not help, so everything stops."
            )
            return False
        self._console.say(
            f"headrace: {name} ended with code {child.exit_code}; starting it again in {decision.delay_s:g} s."
        )
        loop.call_later(decision.delay_s, self._events.put_nowait, RestartDue(child.spec))
        return True

    async def _stop_all(self) -> None:
        hurried = False
        for stage in sorted(Stage):
            children = [child for child in self._running if child.spec.stage == stage]
            for child in children:
                child.signal(signal.SIGTERM)
            limit_s = max((child.spec.stop_limit_s for child in children), default=0.0)
            hurried = await self._until_gone(children, limit_s, hurried)

    async def _until_gone(self, children: Sequence[Child], limit_s: float, hurried: bool) -> bool:
        """Wait until ``children`` ended and kill them after ``limit_s``, at once when hurried; returns ``hurried``."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        killed = False
        while any(child in self._running for child in children):
            if hurried:
                # The server still gets a moment to flush its file.
                limit_s = min(limit_s, _HURRIED_REDIS_S if children[0].spec.stage is Stage.REDIS else 0.0)
            left_s = started_s + limit_s - loop.time()
            if left_s <= 0 and not killed:
                killed = True
                for child in children:
                    if child in self._running:
                        self._console.say(f"headrace: {child.spec.name} did not stop in time and is killed.")
                        child.signal(signal.SIGKILL)
            event = await self._next_event(None if killed else left_s)
            hurried = hurried or isinstance(event, StopAsked)
        return hurried

    async def _next_event(self, timeout_s: float | None) -> Event | None:
        try:
            return await asyncio.wait_for(self._events.get(), timeout_s)
        except TimeoutError:
            return None

    def _stop_asked(self, number: signal.Signals) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._stop_asked_s >= _SAME_STOP_S:
            self._stop_asked_s = now_s
            self._events.put_nowait(StopAsked(number))

    def _start(self, spec: ChildSpec) -> Child | None:
        try:
            child = Child(spec, self._environment, self._cwd, lambda line: self._console.line(spec.name, line))
        except OSError as error:
            self._console.say(f"headrace: {spec.name} cannot be started: {error}.")
            return None
        self._running.append(child)
        if self._guardian is not None:
            self._guardian.started(child.pid)
        asyncio.get_running_loop().add_reader(child.output_fd, self._read, child)
        self._reap()  # it may have ended before it was in the list, with its SIGCHLD already seen
        return child

    def _read(self, child: Child) -> None:
        if not child.read():
            asyncio.get_running_loop().remove_reader(child.output_fd)

    def _reap(self) -> None:
        for child in [child for child in self._running if child.poll()]:
            self._running.remove(child)
            asyncio.get_running_loop().remove_reader(child.output_fd)
            child.close()
            if self._guardian is not None:
                self._guardian.ended(child.pid)
            self._events.put_nowait(Ended(child))
