"""A consumer: reads requests from the stream, batches them, runs a model, replies."""
