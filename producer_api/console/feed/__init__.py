"""What the console shows: how models, workers and lanes stand now, for whoever listens."""
