"""Metrics: histograms that are cheap on a hot path, and a server for them."""
