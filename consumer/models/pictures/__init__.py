"""Pictures from strangers: headers, bounds, decoding."""
