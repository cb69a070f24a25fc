"""`headrace lane`: limits, weights, census, and the guard against floods."""
