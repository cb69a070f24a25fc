"""Exit codes of all commands, for scripts. They never change their meaning. Pure.

Those of consumers and front ends are in ``shared/process/exit_codes.py``, and have the same meaning here.
"""

from __future__ import annotations

from typing import Final

from shared.process.exit_codes import MODEL_CANNOT_LOAD, SOFTWARE_ERROR, TRY_LATER, WRONG_CONFIGURATION

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = WRONG_CONFIGURATION
EXIT_TIMEOUT: Final = 3
EXIT_REFUSED: Final = 4
EXIT_INTERRUPTED: Final = 130

TABLE: Final = {
    EXIT_DONE: "done",
    EXIT_FAILED: "not done, or only in part: Redis or the front end is away, a worker refused, a problem was found",
    EXIT_USAGE: "wrong usage: an option, a setting, a file or a name that is not there; trying again does not help",
    EXIT_TIMEOUT: "no answer in time",
    EXIT_REFUSED: "the front end, or the model, refused the request",
    MODEL_CANNOT_LOAD: "a model cannot be loaded",
    SOFTWARE_ERROR: "an error in Headrace or in a model's code ended the process",
    TRY_LATER: "another process on this machine is doing the same; try again later",
    EXIT_INTERRUPTED: "interrupted by Ctrl-C",
}
"""Each code, and what it means for whoever called the command."""
