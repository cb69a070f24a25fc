"""vLLM behind the interface of an engine."""
