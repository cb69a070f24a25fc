"""What the benchmark and the peers' servers agree on; imports nothing, because both environments read it."""

from __future__ import annotations

WEIGHTS = "HEADRACE_BENCH_WEIGHTS"
"""Environment variable with the path of the state dict, which holds the weights that Headrace serves."""
