"""How many front ends and consumers, on which cores and GPUs, with how many threads. Pure: the machine comes in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from shared.families import known
from shared.model_config import ModelConfig
from shared.process.machine import GIB, Machine
from shared.process.threads import threads_each
from shared.settings import Settings

MEMORY_EACH_BYTES = 3 * GIB // 2
"""What a process may need, by rule of thumb, so that a machine with many cores and little memory does not swap."""

MOST_FRONT_ENDS = 4
"""Beyond it Redis, which is one thread, is what is full: it takes a third to a half of a front end's time for each
request, and as much again for the consumer."""
CONSUMERS_EACH = 16
"""So many consumers on one core each do not fill one front end: a picture is a millisecond or more of their time, and a
tenth of one of its own."""
CORES_OF_A_GPU = 2
"""A consumer on a GPU has a thread that feeds it, and others that decode."""


@dataclass(frozen=True, slots=True)
class Place:
    """One consumer process.

    Attributes:
        name: shown to the operator.
        index: its number over all models.
        threads: of torch; None leaves the choice to the process.
        cores: those it is tied to; empty for none.
        gpu: the one that it sees; None leaves that alone.
    """

    name: str
    model: str
    index: int
    threads: int | None = None
    cores: tuple[int, ...] = ()
    gpu: str | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Variables that tell the process its threads and its GPU."""
        found: dict[str, str] = {}
        if self.threads is not None:
            found["HEADRACE_TORCH_THREADS"] = str(self.threads)
        if self.gpu is not None:
            found["CUDA_VISIBLE_DEVICES"] = self.gpu
        return found


def counts(settings: Settings, models: Mapping[str, ModelConfig], machine: Machine) -> dict[str, int]:
    """Return the number of processes of each model: the environment's, else the table's, else the machine's."""
    chosen = {name: settings.consumers or config.consumers for name, config in models.items()}
    automatic = [name for name, count in chosen.items() if count == 0 and _computes(models[name])]
    if settings.device == "cuda" or (settings.device == "auto" and machine.gpus):
        return {name: chosen[name] or (max(1, len(machine.gpus)) if name in automatic else 1) for name in models}
    on_cores = [name for name in automatic if not _is_one_process(models[name])]
    count = _one_each_core(machine, len(on_cores), len(automatic) - len(on_cores))
    return {name: chosen[name] or (count if name in on_cores else 1) for name in models}


def _computes(config: ModelConfig) -> bool:
    return known(config.family).computes


def _is_one_process(config: ModelConfig) -> bool:
    return known(config.family).is_one_process


def _one_each_core(machine: Machine, models: int, others: int) -> int:
    """Return how many processes each of ``models`` gets as far as memory goes, beside ``others`` with one process."""
    most = machine.usable_cores
    if machine.free_memory_bytes is not None and models:
        most = min(most, (machine.free_memory_bytes // MEMORY_EACH_BYTES - others) // models)
    return max(1, most)


def places(settings: Settings, models: Mapping[str, ModelConfig], machine: Machine) -> list[Place]:
    """Return every consumer process, in the order of their index."""
    found: list[Place] = []
    for model, count in counts(settings, models, machine).items():
        for number in range(1, count + 1):
            found.append(Place(f"consumer {model}" if count == 1 else f"consumer {model} {number}", model, len(found)))
    computing = [place for place in found if _computes(models[place.model])]
    on_gpu = settings.device != "cpu" and bool(machine.gpus)
    if on_gpu:
        settled = _on_gpus(machine, computing)
    else:
        alone = [place for place in computing if _is_one_process(models[place.model])]
        settled = _on_cores(settings, machine, [place for place in computing if place not in alone], alone)
    by_index = {place.index: place for place in settled}
    return [by_index.get(place.index, place) for place in found]


def place_of(settings: Settings, models: Mapping[str, ModelConfig], model: str, machine: Machine) -> Place:
    """Return the first consumer that ``headrace up`` would start for ``model``.

    Args:
        models: the whole table. Unless the model is one of those that the settings choose, it is served alone.
    """
    served = settings.models if model in settings.models else (model,)
    found = places(settings, {name: models[name] for name in served if name in models}, machine)
    return next(place for place in found if place.model == model)


def _on_gpus(machine: Machine, computing: Sequence[Place]) -> list[Place]:
    # Threads are left to the process: should torch find the GPU unusable after all, it computes on the cores.
    return [replace(place, gpu=machine.gpus[i % len(machine.gpus)]) for i, place in enumerate(computing)]


def _on_cores(
    settings: Settings, machine: Machine, each: Sequence[Place], of_one_process: Sequence[Place]
) -> list[Place]:
    """Give threads to processes, of which those ``of_one_process`` a model count apart: theirs must not become fewer
    because other models have a process for each core, which are idle most of the time."""
    settled: list[Place] = []
    for group in (each, of_one_process):
        threads = settings.torch_threads or threads_each(machine.usable_cores, len(group))
        settled += [replace(place, threads=threads) for place in group]
    # With a quota the kernel stops the container wherever it runs, and other containers are tied to nothing.
    fits = sum(place.threads or 1 for place in settled) <= len(machine.cores) == machine.usable_cores
    if settings.pin == "off" or not machine.can_pin or not fits:
        return settled
    pinned, cores = [], list(machine.cores)
    for place in settled:
        count = place.threads or 1
        pinned.append(replace(place, cores=tuple(cores[:count])))
        del cores[:count]
    return pinned


def front_ends(settings: Settings, models: Mapping[str, ModelConfig], machine: Machine, places: Sequence[Place]) -> int:
    """Return how many front ends share the port: the setting's, else as many as would be kept busy and find a core.

    A GPU, or a model that computes nothing, takes what two front ends carry, each on a core that nothing else needs.
    Where consumers have the cores, a front end lives from what they leave, so one serves ``CONSUMERS_EACH`` of them.
    """
    if settings.front_ends:
        return settings.front_ends
    if not machine.can_share_ports:
        return 1
    computing = [place for place in places if _computes(models[place.model])]
    on_gpus = sum(place.gpu is not None for place in computing)
    on_cores, others = len(computing) - on_gpus, len(places) - len(computing)
    if on_cores:
        wanted = -(-on_cores // CONSUMERS_EACH)
        return min(wanted, MOST_FRONT_ENDS)
    free_cores = machine.usable_cores - 1 - CORES_OF_A_GPU * on_gpus - others  # one for Redis
    return max(1, min(2 * (on_gpus + others), free_cores, MOST_FRONT_ENDS))
