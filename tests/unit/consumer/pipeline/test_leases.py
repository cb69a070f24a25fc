"""The lease book."""

from __future__ import annotations

from consumer.pipeline import leases
from consumer.pipeline.leases import LeaseBook


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


def test_each_that_is_held_has_its_time_and_the_count_of_ends_grows() -> None:
    book = LeaseBook()
    book.take(("a", b"1-0"), 5.0)
    book.take(("a", b"2-0"), 5.0)
    book.promise(("a", b"2-0"), 9.0)
    assert (sorted(book.due_s()), book.releases) == ([5.0, 9.0], 0)
    book.release([("a", b"2-0")])
    assert (book.due_s(), book.releases) == ([5.0], 1)


def test_what_was_put_off_is_taken_alone_and_from_then_on_as_any_other() -> None:
    book, claim = LeaseBook(), ("a", b"1-0")
    book.take(claim)
    book.put_off(claim)
    assert not book.holds(claim)
    assert not book.take(claim)
    assert book.take(claim, isolated=True)
    assert not book.take(claim, isolated=True)
    book.release([claim])
    assert book.take(claim)


def test_what_was_put_off_is_remembered_within_bounds() -> None:
    book = LeaseBook()
    for number in range(leases.MOST_PUT_OFF + 1):
        book.put_off(("a", b"%d-0" % number))
    assert book.take(("a", b"0-0"))
    assert not book.take(("a", b"1-0"))
