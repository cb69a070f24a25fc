"""What texts are sent to language and text models: made from a seed, so that everybody sends the same."""
