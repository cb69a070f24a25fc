"""Running generations step by step, and streaming what comes of them."""
