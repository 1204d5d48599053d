"""Progress on standard error, if it is a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from ..machine.progress import Report


@contextmanager
def on_console(label: str) -> Iterator[Report]:
    """Show a bar, the time so far and what goes on; see :data:`..machine.progress.Progress`."""
    console = Console(stderr=True)
    one_line = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    with Progress(
        TextColumn(escape(label)),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", table_column=one_line),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=None)

        def report(done: int, total: int | None, what: str = "") -> None:
            bar.update(task, description=escape(what), completed=done, total=total)

        yield report
