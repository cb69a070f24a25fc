"""The console's page: the files that a browser gets."""
