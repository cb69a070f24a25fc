"""The version that handlers see: of the last TorchServe whose interface this is."""

from __future__ import annotations

VERSION = "0.12.0"
