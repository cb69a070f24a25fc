"""One request, from its body to its answer. No I/O."""
