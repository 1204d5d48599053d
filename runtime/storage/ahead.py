"""Calls that mostly wait, made ahead of when their results are needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def called_ahead(
    call: Callable[[_Item], _Result], items: Iterable[_Item], threads: int
) -> Iterator[tuple[_Item, _Result]]:
    """Yield items in order, each with what ``call`` returns for it.

    Args:
        call: is called by so many ``threads`` at once.
        items: at most twice as many as threads are taken ahead.
        threads: how many calls are made at once.

    Raises:
        Exception: whatever a call raises, when it is the turn of its item.
    """
    waiting: deque[tuple[_Item, Future[_Result]]] = deque()
    pool = ThreadPoolExecutor(threads, "glass-ahead")
    try:
        for item in items:
            waiting.append((item, pool.submit(call, item)))
            if len(waiting) > 2 * threads:
                first, result = waiting.popleft()
                yield first, result.result()
        while waiting:
            first, result = waiting.popleft()
            yield first, result.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # a store that is away keeps them waiting
