"""Put the listener together, if the settings ask for one; without that nothing of gRPC is imported."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from producer_api.auth import KeyCheck
from producer_api.http.server import tls_of
from producer_api.inference.context import AppContext
from producer_api.load.answer_budget import AnswerBudget
from shared.settings import Settings, SettingsError
from shared.tracing.spans import Tracing

if TYPE_CHECKING:
    from .listener import Listener

NEEDED = ("grpc", "google.protobuf")


def listener_of(
    settings: Settings,
    context: AppContext,
    key_check: KeyCheck | None,
    tracing: Tracing | None,
    answer_budget: AnswerBudget,
    is_ready: Callable[[], bool],
) -> Listener | None:
    """Return the listener for ``HEADRACE_GRPC_PORT``, None if that is not set.

    Args:
        is_ready: what ``/readyz`` says.

    Raises:
        SettingsError: the packages are missing, or the certificate cannot be used.
    """
    if settings.grpc_port is None:
        return None
    check_installed()
    # The library's own log lines, which any client can cause, go nowhere unless asked for.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from .calls import Inferences
    from .information import Information
    from .listener import Listener
    from .service import Service
    from .unread import UnreadAnswers

    inferences = Inferences(context, tracing)
    information = Information(context.queue, context.statistics, is_ready)
    service = Service(context, inferences, information, UnreadAnswers(answer_budget), key_check)
    return Listener(settings, tls_of(settings), service, inferences.end_all)


def check_installed() -> None:
    """Refuse a setting that needs packages which are not here.

    Raises:
        SettingsError: they are missing.
    """
    for name in NEEDED:
        try:
            is_here = importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:  # of the package that it is in
            is_here = False
        if not is_here:
            raise SettingsError(
                "HEADRACE_GRPC_PORT needs packages of the dependency group grpc, which are not installed: "
                "`pip install --group grpc`, or build the image with EXTRA_GROUP=grpc."
            )
