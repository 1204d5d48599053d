"""How far something is: libraries report it, and whoever called them decides who sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeAlias, TypeVar

_Item = TypeVar("_Item")


class Report(Protocol):
    """Takes how far the work is: ``done`` of ``total`` (``None``: unknown), and what goes on."""

    def __call__(self, done: int, total: int | None, what: str = "") -> None: ...


Progress: TypeAlias = Callable[[str], AbstractContextManager[Report]]
"""Called with the name of some work when it begins; its block ends when the work does. Work of
unknown length may report nothing at all."""


@contextmanager
def silent(label: str) -> Iterator[Report]:
    """Show nothing."""
    yield lambda done, total, what="": None


def track(
    items: Iterable[_Item], label: str, total: int | None, progress: Progress
) -> Iterator[_Item]:
    """Pass items through and report how many were taken."""
    with progress(label) as report:
        report(0, total)
        for count, item in enumerate(items, 1):
            yield item
            report(count, total)
