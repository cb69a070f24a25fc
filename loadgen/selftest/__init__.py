"""Measuring the generator and the gate themselves."""
