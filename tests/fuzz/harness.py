"""Runs inputs through a child process that may crash, hang or eat memory, and keeps count."""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

FINDINGS = ("crash", "hang", "fault")


@dataclass(frozen=True)
class Result:
    """What became of one input.

    Attributes:
        outcome: ``read``, ``refused``, or a finding: ``crash`` (the process died), ``hang`` (it
            was killed at the time limit), ``fault`` (an exception that is none of the project's).
        what: the sentence, the exception or the signal.
        seconds: CPU time of the target.
        memory: bytes by which resident memory grew at the peak.
    """

    outcome: str
    what: str
    seconds: float = 0.0
    memory: int = 0


class Child:
    """One process at a time, started anew after it died."""

    def __init__(self, target: str, *, seconds: float, memory: int) -> None:
        """Read inputs with a target, ``module:function``.

        Args:
            target: takes bytes; returns a few words, or raises.
            seconds: wall time for one input; a process that takes longer is killed.
            memory: bytes of address space that the process may have.
        """
        self._arguments = (target, seconds, memory)
        self._process: subprocess.Popen[bytes] | None = None
        self._results = -1

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._end()

    def run(self, content: bytes) -> Result:
        """Give one input to the process and wait for what becomes of it."""
        process = self._process or self._start()
        _, seconds, _ = self._arguments
        try:
            process.stdin.write(struct.pack("<I", len(content)) + content)
            process.stdin.flush()
        except BrokenPipeError:
            return self._died()
        ready, _, _ = select.select([self._results], [], [], seconds)
        if not ready:
            self._end()
            return Result("hang", f"longer than {seconds:g} s", seconds)
        line = self._line()
        return Result(**json.loads(line)) if line else self._died()

    def _start(self) -> subprocess.Popen[bytes]:
        target, _, memory = self._arguments
        self._results, writing = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.child", target, str(writing), str(memory)],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[writing],
        )
        os.close(writing)
        self._line()  # it is ready: nobody's input has hung while it was started
        return self._process

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            part = os.read(self._results, 1 << 16)
            if not part:
                return b""
            line += part
        return line

    def _died(self) -> Result:
        code = self._process.wait()
        self._end()
        return Result("crash", signal.Signals(-code).name if code < 0 else f"exit code {code}")

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.stdin.close()
            self._process.wait()
            os.close(self._results)
            self._process = None


@dataclass
class Tally:
    """What became of many inputs.

    Attributes:
        outcomes: how many of each.
        seconds, memory: the worst.
        findings: the inputs that were neither read nor refused, and what became of them.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    memory: int = 0
    findings: list[tuple[bytes, Result]] = field(default_factory=list)

    def add(self, content: bytes, result: Result) -> None:
        self.outcomes[result.outcome] += 1
        self.seconds = max(self.seconds, result.seconds)
        self.memory = max(self.memory, result.memory)
        if result.outcome in FINDINGS:
            self.findings.append((content, result))


def run_all(child: Child, inputs: Iterable[bytes]) -> Tally:
    """Run every input."""
    tally = Tally()
    for content in inputs:
        tally.add(content, child.run(content))
    return tally


def keep(folder: Path, name: str, tally: Tally) -> list[Path]:
    """Write the inputs that were findings to a folder, one of each kind."""
    kept: dict[tuple[str, str], Path] = {}
    for content, result in tally.findings:
        digest = hashlib.sha256(content).hexdigest()[:8]
        path = folder / f"{name.replace(' ', '-')}-{result.outcome}-{digest}"
        if kept.setdefault((result.outcome, result.what), path) == path:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return list(kept.values())
