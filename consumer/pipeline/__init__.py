"""From an entry to its answer: fetch, run, commit, and the leases of what is in flight."""
