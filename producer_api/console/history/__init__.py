"""The console's memory: a ring in Redis of what each front end has counted in each ten seconds, for a day."""
