"""Proof that the gate can fail and that the load generator measures right: `make mutants` and `make selftest`."""
