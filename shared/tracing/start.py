"""Starting what HEADRACE_TRACING asks for; what it needs is imported only then."""

from __future__ import annotations

from shared.settings import SettingsError

from .spans import Tracing

OFF = "off"


def start(mode: str, service: str) -> Tracing | None:
    """Start tracing as ``HEADRACE_TRACING`` says; None when it is off.

    Args:
        mode: ``off`` or ``otlp``.
        service: name of this process among the services, unless OTEL_SERVICE_NAME says another.

    Raises:
        SettingsError: the packages are not installed.
    """
    if mode == OFF:
        return None
    try:
        from .otlp import start_otlp
    except ImportError as error:
        raise SettingsError(
            f"HEADRACE_TRACING={mode} needs the packages of the dependency group 'tracing' ({error}); "
            "docs/observability.md says how to install them."
        ) from None
    return start_otlp(service)
