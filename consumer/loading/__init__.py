"""Loading a model: device, precision, warm-up, rehearsal, and what others see of it meanwhile."""
