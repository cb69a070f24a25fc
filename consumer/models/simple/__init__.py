"""Models of one's own that only compute: what goes in and out of them is done here."""
