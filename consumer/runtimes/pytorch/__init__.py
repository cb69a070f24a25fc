"""Runtimes in torch itself: as written, compiled, and CUDA graphs."""
