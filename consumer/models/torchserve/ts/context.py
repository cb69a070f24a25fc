"""The context of a handler: its model, and the requests of the batch under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .metrics import MetricsCache
from .version import VERSION

SERVER = "headrace"


class RequestProcessor:
    """What is known of one request, and what the handler says of its answer."""

    def __init__(self, request_header: Mapping[str, str]) -> None:
        self._given = dict(request_header)
        self._asked = {name.lower(): value for name, value in self._given.items()}
        self._headers: dict[str, str] = {}
        self._status: tuple[int, str | None] = (200, None)

    def get_request_property(self, key: str) -> str | None:
        """Return a header of the request; upper and lower case are the same."""
        return self._asked.get(str(key).lower())

    def get_request_properties(self) -> dict[str, str]:
        """Return the headers of the request."""
        return dict(self._given)

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        """Set the status of the answer."""
        self._status = (code, reason_phrase)

    def get_response_status_code(self) -> int:
        """Return the status of the answer."""
        return self._status[0]

    def get_response_status_phrase(self) -> str | None:
        """Return what was said beside the status."""
        return self._status[1]

    def add_response_property(self, key: str, value: str) -> None:
        """Set a header of the answer; of these only the content type reaches the client."""
        self._headers[str(key).lower()] = value

    def get_response_headers(self) -> dict[str, str]:
        """Return the headers of the answer."""
        return self._headers

    def get_response_header(self, key: str) -> str | None:
        """Return one header of the answer."""
        return self._headers.get(str(key).lower())


class Context:
    """See the module.

    Attributes:
        model_name: as the manifest has it.
        manifest: all of it.
        system_properties: ``model_dir``, ``gpu_id``, ``batch_size``, ``server_name``, ``server_version``,
            ``limit_max_image_pixels``.
        model_yaml_config: what the archive's YAML file says.
        metrics: takes whatever a handler counts, and keeps nothing.
        request_ids: of the requests under way, by their places.
        trusts_pickles: weights may be a pickle of anything; Headrace's own.
    """

    def __init__(
        self,
        model_name: str,
        model_dir: str,
        manifest: dict[str, Any],
        batch_size: int,
        gpu: int | None,
        mms_version: str = VERSION,
        limit_max_image_pixels: bool = True,
        metrics: MetricsCache | None = None,
        model_yaml_config: dict[str, Any] | None = None,
    ) -> None:
        self.model_name, self.manifest = model_name, manifest
        self.system_properties: dict[str, Any] = {
            "model_dir": model_dir,
            "gpu_id": gpu,
            "batch_size": batch_size,
            "server_name": SERVER,
            "server_version": mms_version,
            "limit_max_image_pixels": limit_max_image_pixels,
        }
        self.metrics = metrics or MetricsCache()
        self.model_yaml_config = model_yaml_config or {}
        self.request_ids: dict[int, str] = {}
        self.request_processor: list[RequestProcessor] = []
        self.trusts_pickles = False

    @classmethod
    def of_a_model(
        cls,
        manifest: dict[str, Any],
        folder: Path,
        batch_size: int,
        gpu: int | None,
        settings: dict[str, Any],
        *,
        trust: bool,
    ) -> Context:
        """Make the context of a model that is about to load; nothing is under way."""
        name = str(manifest.get("model", {}).get("modelName", ""))
        made = cls(name, str(folder), manifest, batch_size, gpu, model_yaml_config=settings)
        made.trusts_pickles = trust
        return made

    def begin(self, request_ids: Sequence[str], headers: Sequence[Mapping[str, str]]) -> None:
        """Begin a batch."""
        self.request_ids = dict(enumerate(request_ids))
        self.request_processor = [RequestProcessor(one) for one in headers]

    def get_request_id(self, idx: int = 0) -> str | None:
        """Return the id of a request under way."""
        return self.request_ids.get(idx)

    def get_request_header(self, idx: int, key: str) -> str | None:
        """Return a header of a request; ``Content-Type``, ``X-Request-Id`` and the client's own ``X-`` are there."""
        if not 0 <= idx < len(self.request_processor):
            return None
        return self.request_processor[idx].get_request_property(key)

    def get_all_request_header(self, idx: int) -> dict[str, str]:
        """Return the headers of a request."""
        return self.request_processor[idx].get_request_properties()

    def get_sequence_id(self, idx: int) -> str:
        """Return no id: requests are not parts of sequences."""
        return ""

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Set the content type of an answer."""
        self.set_response_header(idx, "content-type", value)

    def get_response_content_type(self, idx: int) -> str | None:
        """Return the content type that was set."""
        return self.request_processor[idx].get_response_header("content-type")

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Set the status of an answer; one from 400 on makes an error of it."""
        if 0 <= idx < len(self.request_processor):
            self.request_processor[idx].report_status(code, phrase)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        """Set the status of all answers of the batch."""
        for one in self.request_processor:
            one.report_status(code, phrase)

    def get_response_status(self, idx: int) -> tuple[int, str | None]:
        """Return the status of an answer and what was said beside it."""
        one = self.request_processor[idx]
        return one.get_response_status_code(), one.get_response_status_phrase()

    def get_response_headers(self, idx: int) -> dict[str, str]:
        """Return the headers of an answer."""
        return self.request_processor[idx].get_response_headers()

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """Set a header of an answer; of these only the content type reaches the client."""
        if 0 <= idx < len(self.request_processor):
            self.request_processor[idx].add_response_property(key, value)
