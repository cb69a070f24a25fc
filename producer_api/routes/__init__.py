"""Routes: thin, one file per group."""
