"""Tracing: W3C trace context, spans, and their way to a collector."""
