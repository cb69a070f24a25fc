"""The performance gate: budgets, checks, and the verdict."""
