"""Runs the command-line tools as users do: each time in a process of its own."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from ...runtime.machine.errors import EngineError
from ...runtime.machine.interpreter import python_command

RUN, REPORT = "run", "report"


def seconds_of(program: str, arguments: Sequence[str], folder: Path) -> float:
    """Return what a run of ``glass-run`` or ``glass-report`` takes, from start to end.

    Raises:
        EngineError: it failed; the last line it said is why.
    """
    started = time.perf_counter()
    code = f"from glass_edge.runtime.commands.{program} import main; main()"
    done = subprocess.run(  # noqa: S603
        [*python_command(code), *arguments], cwd=folder, capture_output=True, check=False
    )
    taken = time.perf_counter() - started
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise EngineError(f"glass-{program} failed: {said[-1] if said else done.returncode}")
    return taken
