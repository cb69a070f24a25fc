"""What the console's endpoints for rights and actions take and answer, as JSON."""

from __future__ import annotations

import msgspec

from .access import Role


class Session(msgspec.Struct, frozen=True):
    """What the sender of a request may do.

    Attributes:
        models: their names, sorted.
        keys_required: the server asks for API keys.
        read_only_why: a sentence that says why the role is not ``operate``; empty when it is.
    """

    role: Role
    version: str
    models: list[str]
    keys_required: bool
    read_only_why: str
