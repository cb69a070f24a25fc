"""Opens an ONNX file in the runtime that serves it: reads, checks and tries it before it is described [I/O]."""

from __future__ import annotations

import logging
from pathlib import Path

from consumer.runtimes.base import CannotRun
from consumer.runtimes.exported import onnx_file
from consumer.runtimes.exported.file_session import FileSession, cuda_missing, open_file
from consumer.runtimes.exported.onnx_file import OnnxFile
from shared.model_config import ModelConfig

from . import probe, sample_rows
from .probe import Probed
from .sample_rows import Row

log = logging.getLogger(__name__)

DEFAULT, OTHER = "onnxruntime", "openvino"


class Opener:
    """Reads and opens the file of one table.

    Attributes:
        config: the table.
        threads: for one batch.
        reason: one sentence or two on why the runtime is the one it is; may be empty.
    """

    def __init__(self, config: ModelConfig, threads: int) -> None:
        self.config, self.threads = config, threads
        self.reason = ""

    def open(self, device: str, precision: str) -> tuple[OnnxFile, FileSession, Probed]:
        """Read, open and try the file.

        Raises:
            ValueError: it cannot be served so; one sentence.
        """
        check(device, precision)
        file = onnx_file.read(Path(self.config.weights or ""))
        if file.has_free_sizes:
            log.info("The file takes inputs of any size; a batch holds only rows of the same.")
        if file.scales_batches:
            log.warning("The file quantises whole batches, so an answer may change a little with the rows beside it.")
        own = self._samples(file)
        session, probed = self._opened(file, device, own)
        if file.rows is not None:
            size = f"{file.rows} row{'s'[: file.rows != 1]}"
            fixed = f"The file fixes its batches at {size}; a first dimension that is free lets any number run."
            self.reason = f"{self.reason} {fixed}".strip()
        log.info("%s (%.1f MB) is run by %s. %s", file.path, len(file.content) / 1e6, session.runtime, self.reason)
        return file, session, probed

    def _samples(self, file: OnnxFile) -> list[Row]:
        samples = self.config.samples
        if samples is None or not samples.endswith(".npz"):  # else a folder of pictures
            return []
        return sample_rows.own(Path(samples), tuple(one.spec for one in file.inputs))

    def _opened(self, file: OnnxFile, device: str, own: list[Row]) -> tuple[FileSession, Probed]:
        asked = self.config.runtime
        self.reason = f"A file is run by {DEFAULT} unless runtime names {OTHER}."
        if asked not in ("auto", DEFAULT, OTHER):
            self.reason = f"{asked} does not run ONNX files; {DEFAULT} serves."
        if asked == OTHER:
            try:
                session, probed = self._attempt(file, OTHER, device, own)
                reference, _ = self._attempt(file, DEFAULT, device, own)
                if probe.agrees(session, reference, probed.rows):
                    self.reason = f"{OTHER} was asked for, and agrees with {DEFAULT}."
                    return session, probed
                self.reason = f"{OTHER} was asked for, but gives other answers than {DEFAULT}, which serves."
                return reference, probed
            except (CannotRun, ValueError, MemoryError) as error:
                self.reason = (
                    f"{OTHER} was asked for, but cannot run the file: {str(error).rstrip('.')}. {DEFAULT} serves."
                )
        try:
            return self._attempt(file, DEFAULT, device, own)
        except CannotRun as error:
            raise ValueError(str(error)) from None
        except MemoryError as error:
            raise ValueError(f"the memory does not suffice for it: {error}") from None

    def _attempt(self, file: OnnxFile, runtime: str, device: str, own: list[Row]) -> tuple[FileSession, Probed]:
        session = open_file(file, runtime, device, self.threads)
        return session, probe.probe(session, file, own, runs_alone=self.config.max_batch == 1)


def check(device: str, precision: str) -> None:
    """Refuse what no ONNX file can be run in.

    Raises:
        ValueError: one sentence with advice.
    """
    if precision != "fp32":
        raise ValueError(
            f"an ONNX file is run in the precision that it is written in, so {precision} cannot be asked for; leave "
            "precision at auto, and convert the file instead."
        )
    if device != "cpu":
        missing = cuda_missing()
        if missing:
            raise ValueError(missing)
