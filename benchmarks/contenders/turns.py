"""Contenders are opened, those that cannot run are refused, and the others take turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from ...runtime.commands.progress import on_console
from ...runtime.machine.errors import EngineError
from ...runtime.machine.progress import track
from ..measuring.samples import Refusal

_Member = TypeVar("_Member")
_Figure = TypeVar("_Figure")


@contextmanager
def refusing(name: str, refusals: list[Refusal]) -> Iterator[None]:
    """Note what cannot run here, and go on."""
    with on_console(f"warming up {name}"):
        try:
            yield
        except EngineError as error:
            refusals.append(Refusal(name, str(error)))


@contextmanager
def opening(name: str, refusals: list[Refusal], stack: ExitStack) -> Iterator[ExitStack]:
    """Keep what a block opens until ``stack`` closes, or close it and note why it cannot run."""
    with refusing(name, refusals), ExitStack() as opened:
        yield opened
        stack.push(opened.pop_all())


def check_takes_part(names: Iterable[str], refusals: Sequence[Refusal]) -> None:
    """Insist on contenders that nothing can be measured without.

    Raises:
        EngineError: one of them was refused.
    """
    reasons = {refusal.name: refusal.reason for refusal in refusals}
    for name in names:
        if name in reasons:
            raise EngineError(reasons[name])


def in_turns(
    members: Sequence[_Member], measure: Callable[[_Member], _Figure], rounds: int, label: str
) -> list[tuple[_Figure, ...]]:
    """Measure each member once in every round; return each one's figures, round by round."""
    figures = [
        [measure(member) for member in members]
        for _ in track(range(rounds), label, rounds, on_console)
    ]
    return list(zip(*figures, strict=True))
