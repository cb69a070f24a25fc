"""How much is under way, in bytes and requests, and how long a wait that makes. Pure."""
