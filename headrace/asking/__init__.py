"""Commands that ask a front end, as any client of it does."""
