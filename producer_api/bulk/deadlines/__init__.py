"""When a batch must have ended, and what is done so that it has."""
