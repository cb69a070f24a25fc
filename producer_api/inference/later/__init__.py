"""A request that is answered later: putting it off, and the responses that say so."""
