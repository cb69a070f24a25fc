"""When a batch closes and what it costs. Pure: imports nothing of ours."""
