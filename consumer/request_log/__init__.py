"""The request log as a consumer writes it: what ended is collected, and added to it every so often."""
