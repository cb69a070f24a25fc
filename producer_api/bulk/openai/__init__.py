"""OpenAI's Files and Batches: files in the result store, and bulk batches whose items are lines of such a file."""
