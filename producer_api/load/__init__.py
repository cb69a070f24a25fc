"""How much is in progress, in bytes and requests, and how long a wait that means. Pure."""
