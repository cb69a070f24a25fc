"""Starts the processes of a stack in order, keeps them running, and stops them in the opposite order.

A consumer that dies costs only its model: it is started again after longer and longer pauses, and everything else
runs on. Only Redis and the last front end, without which nothing works, can end the stack.

One thread and no locks: signals, the ends of children and restarts that are due all become events of one queue, and
the current phase (bringing up, watching, stopping) takes them from there.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from .bringup import BringUp, Report
from .child import Child, ChildSpec, Stage
from .console import Console
from .crashes import Crash, Crashes
from .events import Ended, Event, LookDue, PatienceOver, RestartDue, StopAsked
from .parent_watch_link import ParentWatch
from .restarts import GiveUp, RestartPolicy

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_READY_POLL_S = 0.02
_LOADED_POLL_S = 1.0
_PATIENCE_S = 60.0
"""How long those models that are ready wait for the others before the stack counts as ready."""
_HURRIED_REDIS_S = 2.0
_CANNOT_START = 127
"""What a shell reports of a program that it cannot start."""
# Some parents (`timeout`, a shell script) pass one Ctrl-C on twice within an instant; only a later one means "hurry".
_SAME_STOP_S = 0.2


class Supervisor:
    """The life of one stack.

    Args:
        services: processes that must run; started from the last stage to the first.
        probes: processes started after them, one for each model, which end with 0 once it has answered.
        environment: environment of every child.
        cwd: working directory of every child.
        console: where output and reports go.
        new_policy: makes the restart policy of each service.
        ready_limit_s: longest wait for a service's ``ready``.
        on_crashes: is given the consumers that died and do not live well yet, whenever that changes.
        patience_s: how long models that are ready wait for the others before the stack counts as ready without them.
    """

    def __init__(
        self,
        services: Sequence[ChildSpec],
        probes: Sequence[ChildSpec],
        environment: Mapping[str, str],
        cwd: str,
        console: Console,
        on_crashes: Callable[[Mapping[str, Crash]], None],
        new_policy: Callable[[], RestartPolicy] = RestartPolicy,
        ready_limit_s: float = 60.0,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._services = sorted(services, key=lambda spec: -spec.stage)
        self._probes = {spec.model: spec for spec in probes}
        self._environment = environment
        self._cwd = cwd
        self._console = console
        self._policies = {spec.name: new_policy() for spec in services if spec.stage is not Stage.CONSUMER}
        self._crashes = Crashes(lambda: new_policy().endless(), on_crashes)
        self._bring_up = BringUp(_consumers(services), self._probes)
        self._asks = self._is_up = self._is_patience_over = False
        self._ready_limit_s, self._patience_s = ready_limit_s, patience_s
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._running: list[Child] = []
        self._parent_watch: ParentWatch | None = None
        self._on_serving: Callable[[], None] = lambda: None
        self._stop_asked_s = float("-inf")

    async def run(self, on_ready: Callable[[], None], on_serving: Callable[[], None]) -> int:
        """Bring the stack up, call ``on_ready``, keep it running, and return the exit code once all has stopped.

        ``on_serving`` is called from the moment a model answers: after ``on_ready`` if one is ready by then, and each
        time when one becomes ready later.

        0 after Ctrl-C or SIGTERM; the code of Redis or the front end when one died before the stack was ready; 1 when
        one of them kept dying.
        """
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self._stop_asked, number)
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        parent_watch = self._parent_watch = ParentWatch()
        self._on_serving = on_serving
        try:
            code = await self._start_services()
            if code is None:
                code = await self._watch(on_ready)
        finally:
            await self._stop_all()
            parent_watch.close()
            # All is done: one more Ctrl-C between here and the exit must not turn into a traceback.
            signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        return code

    @property
    def report(self) -> Report:
        """Which models are ready, loading or failed so far."""
        return self._bring_up.report()

    async def _start_services(self) -> int | None:
        for _, stage in groupby(self._services, key=lambda spec: spec.stage):
            if (code := await self._start_stage(list(stage))) is not None:
                return code
        self._asks = True
        for spec in list(self._probes.values()):
            self._start_probe(spec)
        return None

    async def _start_stage(self, specs: Sequence[ChildSpec]) -> int | None:
        """Start processes side by side and wait until all are ready."""
        started = [(self._start(spec), spec) for spec in specs]
        if any(child is None and spec.stage is not Stage.CONSUMER for child, spec in started):
            return 1
        for child, spec in started:
            if child is not None and spec.ready is not None:
                code = await self._until_ready(child, spec.ready)
                if code is not None:
                    return code
        return None

    async def _until_ready(self, child: Child, ready: Callable[[], bool]) -> int | None:
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + self._ready_limit_s
        while not ready():
            event = await self._next_event(_READY_POLL_S)
            if event is not None and (code := self._take(event)) is not None:
                return code
            if loop.time() > give_up_s:
                self._console.say(f"headrace: {child.spec.name} did not answer within {self._ready_limit_s:g} s.")
                return 1
        return None

    async def _watch(self, on_ready: Callable[[], None]) -> int:
        is_patience_limited = False
        while True:
            if not self._is_up and (self._bring_up.is_settled or self._is_patience_over):
                self._is_up = True
                on_ready()
                if self.report.ready:
                    self._on_serving()
            elif self._bring_up.is_late and not is_patience_limited:
                is_patience_limited = True
                self._later(self._patience_s, PatienceOver())
            code = self._take(await self._events.get())
            if code is not None:
                return code

    def _take(self, event: Event) -> int | None:
        """Do what an event asks for; returns the exit code when the stack is to stop."""
        match event:
            case StopAsked():
                early = "headrace: stopping before the stack was ready."
                self._console.say("\nheadrace: stopping (once more to hurry)." if self._is_up else early)
                return 0
            case RestartDue(spec):
                child = self._start(spec)
                if child is None and spec.stage is not Stage.CONSUMER:
                    return 1
                if child is not None and (after_s := self._crashes.recovered_after_s(spec)) is not None:
                    self._later(after_s, LookDue(child))
            case PatienceOver():
                self._is_patience_over = True
            case LookDue():
                self._look(event)
            case Ended(child):
                return self._ended(child)
        return None

    def _ended(self, child: Child) -> int | None:
        match child.spec.stage:
            case Stage.PROBE:
                self._probe_ended(child)
            case Stage.CONSUMER:
                lived_s = asyncio.get_running_loop().time() - child.started_s
                self._consumer_died(child.spec, child.exit_code or 0, child.last_words, lived_s)
            case _ if not self._is_up:
                self._tell_early_end(child)
                return child.exit_code or 1
            case _:
                return None if self._survives(child) else 1
        return None

    def _tell_early_end(self, child: Child) -> None:
        self._console.say(
            f"headrace: {child.spec.name} ended with code {child.exit_code} before the stack was ready. "
            + ("Its last lines:" if child.last_lines else "It printed nothing.")
        )
        for line in child.last_lines:
            self._console.say(f"    {line}")

    def _probe_ended(self, child: Child) -> None:
        spec = child.spec
        if self._probes.get(spec.model) is not spec:
            return  # another took its place
        if child.exit_code == 0:
            self._bring_up.answered(spec.model)
            if self._is_up:
                self._console.say(f"headrace: {spec.model} is ready now.")
                self._on_serving()
        else:
            why = child.last_words or f"{spec.name} ended with code {child.exit_code}"
            self._console.say(f"headrace: no answer has come from {spec.model}; everything else runs on. {why}")
            self._bring_up.did_not_answer(spec.model, f"no answer has come from it: {why}")

    def _consumer_died(self, spec: ChildSpec, exit_code: int, why: str, lived_s: float) -> None:
        """Report the death of a consumer and arrange its restart; nothing else is touched by it."""
        crash = self._crashes.died(spec, exit_code, why, lived_s, asyncio.get_running_loop().time())
        often = f", {crash.deaths} times in a row" if crash.deaths > 1 else ""
        said = f" It said last: {crash.why}" if crash.why else ""
        self._console.say(
            f"headrace: {spec.name} ended with code {exit_code}{often}; starting it again in {crash.delay_s:g} s. "
            f"Everything else runs on.{said}"
        )
        self._later(crash.delay_s, RestartDue(spec))
        sentence = f"{spec.name} ended with code {exit_code}." + (f" {crash.why}" if crash.why else "")
        workers = self._bring_up.died(spec.model, spec.name, sentence)
        if workers is not None:
            self._wait_for_fewer(spec.model, workers)

    def _wait_for_fewer(self, model: str, workers: int) -> None:
        """Have the probe of a model wait for no more than the consumers that have not died."""
        old = self._probes.pop(model)
        for child in self._running:
            if child.spec is old:
                child.signal(signal.SIGKILL)
        if workers:
            spec = self._probes[model] = old.waiting_for(workers)
            if self._asks:
                self._start_probe(spec)

    def _start_probe(self, spec: ChildSpec) -> None:
        if self._start(spec) is None:
            self._bring_up.did_not_answer(spec.model, f"{spec.name} cannot be started.")

    def _look(self, look: LookDue) -> None:
        """See whether a consumer that died before lives well now: long enough, and with its model loaded."""
        child, is_loaded = look.child, look.child.spec.is_loaded
        if child not in self._running:
            return
        if look.loaded or is_loaded is None:
            if self._crashes.recovered(child.spec):
                self._console.say(f"headrace: {child.spec.name} runs again.")
                if self._is_up:
                    self._on_serving()
        elif look.loaded is None:
            asking = asyncio.get_running_loop().run_in_executor(None, is_loaded)
            # One that does not answer is not known to be well.
            asking.add_done_callback(
                lambda done: self._events.put_nowait(LookDue(child, done.exception() is None and done.result()))
            )
        else:
            self._later(_LOADED_POLL_S, LookDue(child))

    def _survives(self, child: Child) -> bool:
        """Report the death of ``child`` and arrange its restart; False when it died too often."""
        name, policy = child.spec.name, self._policies[child.spec.name]
        decision = policy.died(asyncio.get_running_loop().time())
        if isinstance(decision, GiveUp):
            often = (
                f"headrace: {name} ended with code {child.exit_code}, {decision.deaths} times within "
                f"{policy.window_s:g} s; starting it again does not help, "
            )
            if not self._is_replaced(child.spec):
                self._console.say(f"{often}so everything stops.")
                return False
            decision = policy.all_the_same()
            self._console.say(f"{often}but another serves; trying it again in {decision.delay_s:g} s.")
        else:
            self._console.say(
                f"headrace: {name} ended with code {child.exit_code}; starting it again in {decision.delay_s:g} s."
            )
        self._later(decision.delay_s, RestartDue(child.spec))
        return True

    def _is_replaced(self, spec: ChildSpec) -> bool:
        """Say whether another process of its stage runs, and is not one that keeps dying, too."""
        now_s = asyncio.get_running_loop().time()
        others = (child.spec for child in self._running if child.spec.stage is spec.stage and child.spec != spec)
        return any(not self._policies[other.name].gives_up(now_s) for other in others)

    def _later(self, delay_s: float, event: Event) -> None:
        asyncio.get_running_loop().call_later(delay_s, self._events.put_nowait, event)

    async def _stop_all(self) -> None:
        hurried = False
        for stage in sorted(Stage):
            children = [child for child in self._running if child.spec.stage == stage]
            for child in children:
                child.stop()
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
            if spec.stage is Stage.CONSUMER:
                self._consumer_died(spec, _CANNOT_START, str(error), 0.0)
            return None
        self._running.append(child)
        if self._parent_watch is not None:
            self._parent_watch.started(child.pid)
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
            if self._parent_watch is not None:
                self._parent_watch.ended(child.pid)
            self._events.put_nowait(Ended(child))


def _consumers(services: Sequence[ChildSpec]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for spec in services:
        if spec.stage is Stage.CONSUMER:
            found.setdefault(spec.model, []).append(spec.name)
    return found
