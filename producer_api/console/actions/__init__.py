"""What the console does: dead letters, bulk batches, lanes; and the note that is taken of it."""
