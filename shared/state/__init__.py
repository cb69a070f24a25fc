"""What Redis knows of a model: its card, its lanes, what operators desired, how its consumers start and fail."""
