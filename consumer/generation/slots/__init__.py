"""The slot engine: any decoder of transformers, with keys and values of each sequence in a slot of its own."""
