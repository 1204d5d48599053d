"""Calls made ahead: their results come in order, no more are made than allowed, none is awaited."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from glass_edge.runtime.storage.ahead import called_ahead

THREADS = 3


def test_results_come_in_the_order_of_the_items_whichever_is_ready_first():
    later = [threading.Event() for _ in range(THREADS)]

    def call(item: int) -> int:
        """Wait for the item behind, so that the last one is ready first."""
        if item < THREADS - 1:
            assert later[item + 1].wait(10)
        if item < THREADS:
            later[item].set()
        return item * item

    found = list(called_ahead(call, range(20), THREADS))
    assert found == [(item, item * item) for item in range(20)]


def test_of_nothing_there_is_nothing():
    assert list(called_ahead(str, [], THREADS)) == []


def test_so_many_calls_are_made_at_once():
    """None of the first ends before all of them have begun."""
    together = threading.Barrier(THREADS, timeout=10)
    running, most = [0], [0]
    lock = threading.Lock()

    def call(item: int) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        if item < THREADS:
            together.wait()
        with lock:
            running[0] -= 1

    list(called_ahead(call, range(30), THREADS))
    assert most[0] == THREADS


def test_an_error_comes_when_it_is_the_turn_of_its_item():
    def call(item: int) -> int:
        if item == 3:
            raise OSError("the store is away")
        return item

    found = called_ahead(call, range(10), THREADS)
    assert [next(found) for _ in range(3)] == [(0, 0), (1, 1), (2, 2)]
    with pytest.raises(OSError, match="the store is away"):
        next(found)


def test_no_more_items_are_taken_than_twice_the_threads_ahead():
    """An inventory of millions is not held, and neither is what was found of it."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    found = called_ahead(str, items(), THREADS)
    for given in range(50):
        assert next(found) == (given, str(given))
        assert len(taken) <= given + 1 + 2 * THREADS
    found.close()


def test_who_leaves_early_waits_for_nothing_and_what_was_queued_is_not_called():
    """A store that is away answers after minutes; Ctrl-C must not."""
    called: list[int] = []
    asked, answer, answered = (threading.Event() for _ in range(3))

    def call(item: int) -> int:
        called.append(item)
        if item == 1:
            asked.set()
            answer.wait(10)
            answered.set()
        return item

    found = called_ahead(call, range(10), 1)
    assert next(found) == (0, 0)
    assert asked.wait(10)
    begun = time.monotonic()
    found.close()
    assert time.monotonic() - begun < 5
    answer.set()
    assert answered.wait(10)
    time.sleep(0.05)  # in which the thread would take up the next
    assert called == [0, 1]
