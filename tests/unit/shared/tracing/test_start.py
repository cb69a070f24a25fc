"""Tracing is an option: what is off imports nothing, and what cannot be had is said in one sentence."""

from __future__ import annotations

import subprocess
import sys

import pytest

from shared.settings import SettingsError
from shared.tracing.start import start


def test_off_is_nothing() -> None:
    assert start("off", "headrace-consumer") is None


@pytest.mark.parametrize("process", ["producer_api", "consumer"])
def test_a_process_imports_nothing_of_it_unless_asked(process: str) -> None:
    heavy = "('shared.tracing.otlp', 'opentelemetry.sdk.trace', 'opentelemetry.exporter', 'opentelemetry.sdk.metrics')"
    code = f"import sys, {process}.__main__; print([name for name in sys.modules if name.startswith({heavy})])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_redis_py_goes_without_opentelemetrys_metrics_and_a_model_of_ones_own_has_them() -> None:
    code = (
        "import sys, shared.redis.client, redis.observability.providers as providers\n"
        "assert not providers.OTEL_AVAILABLE and 'opentelemetry.sdk.metrics' not in sys.modules\n"
        "from opentelemetry.sdk.metrics import MeterProvider\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_missing_packages_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shared.tracing.otlp", None)
    with pytest.raises(
        SettingsError, match=r"HEADRACE_TRACING=otlp needs the packages of the dependency group 'tracing'"
    ):
        start("otlp", "headrace-consumer")
