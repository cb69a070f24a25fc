"""Which runtime and precision are fastest here: found once for a machine and a model, and kept in a folder."""
