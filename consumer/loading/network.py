"""Loading a network: as it was tuned on this machine, or else plainly in torch, so that it serves at once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, thread_time

from consumer.batch_threads import threads_of
from consumer.config import ConsumerConfig
from consumer.events import Parity
from consumer.models.base import Model
from consumer.models.load_errors import said_by
from consumer.models.vision.classifier import Classifier
from consumer.runtimes.base import Job
from consumer.switching.adoption import Adoptable
from consumer.switching.preparation import Sought
from consumer.tuning.fingerprint import fingerprint
from consumer.tuning.store import Entry, Store
from consumer.tuning.tuner import SearchRequest, tune_now
from shared.modules import COMMAND
from shared.state.cards import Tuning

from .precision import AUTO, FP32, prepare
from .start_cache import StartCache
from .warmup import Calibration, calibrate, calibrate_briefly, warm

log = logging.getLogger(__name__)

TORCH = "torch"


@dataclass(frozen=True, slots=True)
class LoadedNetwork:
    """A classifier that is ready.

    Attributes:
        runtime: what runs it.
        tuning: how it came to that.
        adoptable: where something faster may be found for it.
    """

    model: Classifier
    parity: Parity
    calibration: Calibration
    runtime: str
    tuning: Tuning
    adoptable: Adoptable


def store_of(config: ConsumerConfig, device: str) -> Store:
    """Return where findings for this model on this machine are kept."""
    return Store(Path(config.settings.data_dir) / "tuned", config.model_name, fingerprint(config, device))


def sought(config: ConsumerConfig, device: str, precision: str) -> Sought:
    """Return what is to be searched for to run this model in ``precision``."""
    store = store_of(replace(config, precision=precision), device)
    threads = threads_of(config.settings, device)
    return Sought(store, SearchRequest(config.model_name, precision, threads, store.folder, None))


class NetworkLoader:
    """Loads the network of one consumer.

    Args:
        build: makes a classifier that is not loaded yet.
        device: ``cpu`` or ``cuda``.
        close: closes a model that is no longer used.
    """

    def __init__(
        self, build: Callable[[], Classifier], config: ConsumerConfig, device: str, close: Callable[[Model], None]
    ) -> None:
        self._build, self._config, self._device, self._close = build, config, device, close
        self._store = store_of(config, device)
        self._asked = config.settings.runtime or config.model.runtime

    def load(self) -> LoadedNetwork:
        """Load what was found for this machine. Where nothing was, load it plainly.

        A precision that torch does not have on this device is searched for first, whatever ``HEADRACE_TUNE`` says.

        Raises:
            ValueError: the network cannot be loaded as it was asked for.
        """
        tune, asked = self._config.settings.tune, self._config.precision
        stamp, entry = self._store.stamp(), self._store.find()
        searches_first = entry is None and (tune == "first" or self._needs_search(asked))
        if searches_first:
            tune_now(self._errand(stamp), self._config.settings)
            stamp, entry = self._store.stamp(), self._store.find()
        if entry is None:
            return self._plain(Adoptable(self._store, stamp, self._errand(stamp), not searches_first))
        if not self._is_as_asked(entry):
            adoptable = Adoptable(self._store, entry.stamp, self._errand(None), False)
            return self._plain(adoptable, f"{entry.finding.refusal} torch serves.")
        try:
            return self._tuned(entry)
        except Exception as error:
            why = f"What was found for this machine cannot be used; torch serves. {said_by(error)}"
            log.warning("%s", why)
        return self._plain(Adoptable(self._store, entry.stamp, self._errand(entry.stamp), not searches_first), why)

    def _errand(self, but_not: int | None) -> SearchRequest:
        config = self._config
        threads = threads_of(config.settings, self._device)
        return SearchRequest(config.model_name, config.precision, threads, self._store.folder, but_not)

    def _torch_has(self, precision: str) -> bool:
        if precision in (AUTO, FP32):
            return True
        from consumer.runtimes.pytorch.torch_runner import PRECISIONS

        return precision in PRECISIONS[self._device]

    def _needs_search(self, precision: str) -> bool:
        """Say whether a precision can only be had in another runtime, which is none of a search for ``auto``."""
        from consumer.tuning.candidates import candidates

        return not self._torch_has(precision) and bool(candidates(self._device, self._asked, precision)[0])

    def _is_as_asked(self, entry: Entry) -> bool:
        if self._config.precision in (AUTO, entry.finding.precision):
            return True
        if not self._torch_has(self._config.precision):
            raise ValueError(f"precision {self._config.precision} is refused: {entry.finding.refusal}")
        return False  # torch says by itself what is wrong with it

    def _tuned(self, entry: Entry) -> LoadedNetwork:
        from consumer.tuning.candidates import runtime

        finding, begun_s = entry.finding, monotonic()
        used = runtime(finding.runtime)
        if used.needs_network:
            _prepare_torch(self._config, self._device)
        model = self._build()
        job = Job(
            self._device,
            finding.precision,
            self._config.max_batch,
            threads_of(self._config.settings, self._device),
            entry.spec.preprocessing.crop,
            entry.folder,
            model.network() if used.needs_network else None,
        )
        model.open(entry.spec, used.open(job))
        try:
            calibration = warm(model, self._config, finding)
        except BaseException:
            self._close(model)
            raise
        log.info(
            "%s in %s, as it was tuned on this machine; opened in %.1f s. %s",
            finding.runtime,
            finding.precision,
            monotonic() - begun_s,
            finding.refusal or finding.tuning.batching,
        )
        adoptable = Adoptable(self._store, entry.stamp, self._errand(None), False)
        return LoadedNetwork(model, finding.parity, calibration, finding.runtime, finding.tuning, adoptable)

    def _plain(self, adoptable: Adoptable, why: str = "") -> LoadedNetwork:
        """Load it in torch. If it will soon be replaced, only as much is measured as the first requests need."""
        config, device = self._config, self._device
        if self._needs_search(config.precision):
            raise ValueError(
                f"precision {config.precision} needs a runtime other than torch, and none was found; the log says why."
            )
        _prepare_torch(config, device)
        wanted = FP32 if config.precision == AUTO else config.precision
        model, parity = prepare(self._build, device, wanted, StartCache(), config.max_batch, self._close)
        try:
            if adoptable.wants_search and config.settings.tune != "off":
                calibration = calibrate_briefly(model, config)
            else:
                folder = Path(config.settings.data_dir) / "notes"
                start_cache = StartCache(folder, config.model_name, fingerprint(config, device))
                # On a CPU that others use too, long runs are always interrupted and short ones are not, which makes
                # small batches look better than they are. The time of this thread leaves that out.
                timer = thread_time if device == "cpu" else monotonic
                calibration = calibrate(model, config, start_cache, parity.precision, timer)
        except BaseException:
            self._close(model)
            raise
        assert isinstance(model, Classifier)
        if config.precision == AUTO:
            parity = replace(parity, reason="nothing else has been tried on this machine yet.")
        return LoadedNetwork(model, parity, calibration, TORCH, self._tuning_of_plain(why, adoptable), adoptable)

    def _tuning_of_plain(self, why: str, adoptable: Adoptable) -> Tuning:
        missing = self._missing()
        if missing or why:
            return Tuning("refused", why or f"{missing} torch serves.")
        if not adoptable.wants_search:
            return Tuning("refused", "The search for a faster runtime failed, and the log says why; torch serves.")
        if self._config.settings.tune == "off":
            todo = f"`{COMMAND} tune {self._config.model_name}` looks for the fastest runtime"
            return Tuning("plain", f"HEADRACE_TUNE is off; {todo}.")
        return Tuning("searching", "The fastest runtime is being looked for; torch serves meanwhile.")

    def _missing(self) -> str:
        """Say why the runtime that was asked for by name is not there; empty when it is, or any will do."""
        from consumer.tuning.candidates import RUNTIMES

        if self._asked == AUTO:
            return ""
        known = next((one for one in RUNTIMES if one.name == self._asked), None)
        return f"{self._asked} is not to be had here." if known is None else known.missing(self._device)


def _prepare_torch(config: ConsumerConfig, device: str) -> None:
    from .torch_environment import prepare_for_torch

    prepare_for_torch()
    import torch

    torch.set_num_threads(threads_of(config.settings, device))
