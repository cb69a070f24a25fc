"""The lease book."""

from __future__ import annotations

from consumer.lease import LeaseBook


def test_an_entry_is_taken_once_until_it_is_released() -> None:
    book = LeaseBook()
    assert book.take(("a", b"1-0"))
    assert book.holds(("a", b"1-0"))
    assert not book.take(("a", b"1-0"))
    assert len(book) == 1
    book.release([("a", b"1-0")])
    assert not book.holds(("a", b"1-0"))
    assert book.take(("a", b"1-0"))


def test_releasing_what_is_not_held_is_harmless() -> None:
    book = LeaseBook()
    book.take(("a", b"1-0"))
    book.release([("a", b"2-0"), ("b", b"1-0")])
    assert len(book) == 1
