"""Turns in which nobody is always the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ...runtime.commands.progress import on_console
from ...runtime.machine.progress import track

_Member = TypeVar("_Member")
_Figure = TypeVar("_Figure")


def in_rotation(
    members: Sequence[_Member], measure: Callable[[_Member], _Figure], rounds: int, label: str
) -> list[tuple[_Figure, ...]]:
    """Measure each member once in every round, and begin each round with another one.

    Returns:
        Each member's figures, round by round, without those of a first round that warms up.
    """
    figures: dict[int, list[_Figure]] = {index: [] for index in range(len(members))}
    for turn in track(range(rounds + 1), label, rounds + 1, on_console):
        for index in range(len(members)):
            own = (index + turn) % len(members)
            figures[own].append(measure(members[own]))
    return [tuple(found[1:]) for found in figures.values()]
