"""Routes of the console: one module for each part of it."""
