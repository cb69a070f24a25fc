"""The continuous batching that transformers has, behind the interface of an engine."""
