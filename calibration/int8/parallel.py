"""Shares work that NumPy does outside Python's lock among threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

from ...runtime.machine.cpus import available_cpus

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_parallel(
    work: Callable[[_Item], _Result], items: Iterable[_Item], most: int | None = None
) -> Iterator[_Result]:
    """Yield the results of some work in the items' order.

    On an interruption, what is begun is finished and nothing else.

    Args:
        work: what to do with an item.
        items: all of them are taken at once.
        most: the largest number of threads; one for each CPU if there are fewer of these.

    Raises:
        Exception: what the work raised, at its place in the order.
    """
    cpus = available_cpus()
    threads = cpus if most is None else min(most, cpus)
    pool = ThreadPoolExecutor(threads)
    # Threads that compute products with several threads each wait for one another: GPTQ of a
    # ViT-B/16 took half as long again on two CPUs.
    with threadpool_limits(max(1, cpus // threads), user_api="blas"):
        try:
            yield from pool.map(work, items)
        finally:
            pool.shutdown(cancel_futures=True)
