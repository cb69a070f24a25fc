"""Decoding jobs of ordinary requests go first, and no thread is lost for them."""

from __future__ import annotations

import threading

from consumer.pipeline.decoding.job_queue import JobQueue
from tests.helpers import eventually


def test_ordinary_jobs_go_first() -> None:
    jobs: JobQueue[str] = JobQueue(2)
    for name in ("b1", "b2"):
        jobs.put(name, is_later=True)
    for name in ("a1", "a2"):
        jobs.put(name)
    assert [jobs.get() for _ in range(4)] == ["a1", "a2", "b1", "b2"]


def test_one_thread_is_left_for_them() -> None:
    jobs: JobQueue[str] = JobQueue(1)
    for name in ("b1", "b2"):
        jobs.put(name, is_later=True)
    assert jobs.get() == "b1"
    taken: list[str | None] = []

    def take_two() -> None:
        for _ in range(2):
            taken.append(jobs.get())

    thread = threading.Thread(target=take_two)
    thread.start()
    jobs.put("a")
    eventually(lambda: taken == ["a"])
    assert thread.is_alive()
    jobs.ended_later()
    thread.join()
    assert taken == ["a", "b2"]


def test_at_the_end_everything_is_done_first() -> None:
    jobs: JobQueue[str] = JobQueue(1)
    for name in ("b1", "b2", "b3"):
        jobs.put(name, is_later=True)
    jobs.put(None)
    jobs.put(None)
    assert [jobs.get() for _ in range(5)] == ["b1", "b2", "b3", None, None]


def test_many_threads_do_all_of_it_once() -> None:
    jobs: JobQueue[int] = JobQueue(2)
    done: list[int] = []

    def work() -> None:
        while (job := jobs.get()) is not None:
            done.append(job)
            if job % 2:
                jobs.ended_later()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(400):
        jobs.put(number, is_later=bool(number % 2))
    for _ in threads:
        jobs.put(None)
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(400))
