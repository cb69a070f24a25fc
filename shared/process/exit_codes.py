"""Exit codes other than 0 and 1, for other processes and for operators. They never change."""

from __future__ import annotations

from typing import Final

WRONG_CONFIGURATION: Final = 2
"""A setting is wrong: no retry mends it. One sentence says which."""

MODEL_CANNOT_LOAD: Final = 69
"""The model of a consumer cannot be built, loaded or run (EX_UNAVAILABLE of sysexits.h)."""

SOFTWARE_ERROR: Final = 70
"""A stage of a consumer crashed or hung (EX_SOFTWARE of sysexits.h); a supervisor starts the consumer again."""

TRY_LATER: Final = 75
"""Another process on this machine is doing the same at the moment (EX_TEMPFAIL of sysexits.h)."""
