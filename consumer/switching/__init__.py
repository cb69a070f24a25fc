"""Going over to another precision or runtime while the consumer runs."""
