"""Reading what language and text models answer, streamed or whole."""
