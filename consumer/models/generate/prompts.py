"""Beginnings of texts of many kinds, with which precisions are compared and a model is warmed up."""

from __future__ import annotations

SHORTEST = "Hello"
PROMPTS = (
    SHORTEST,
    "The capital of France is",
    "Once upon a time there was a",
    "def fibonacci(n):\n    ",
    "Dear Sir or Madam,\n\nI am writing to",
    "1, 2, 3, 4,",
    "The quick brown fox jumps over the",
    "Q: What is the largest planet?\nA:",
    "Der schnelle braune Fuchs springt",
    "SELECT name FROM users WHERE",
    '{"name": "Bob", "age":',
    "Water boils at a temperature of",
    "import numpy as np\n",
    "In 1969, the first man",
    "She opened the door and",
    "Step 1: Preheat the oven to",
)


def prompt(number: int) -> str:
    """Return the prompt ``number``; there are many, since after the first ones each is two of them."""
    first, more = number % len(PROMPTS), number // len(PROMPTS) % len(PROMPTS)
    return PROMPTS[first] if not more else f"{PROMPTS[(first + more) % len(PROMPTS)]}\n\n{PROMPTS[first]}"
