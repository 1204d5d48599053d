"""Building a plan in a child process, and hearing how far it is."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

import msgspec

from ...machine.errors import EngineError
from ...machine.interpreter import python_command
from ...machine.progress import Progress
from .compile import Message, Refusal, Request, Result, Step
from .plan import Built, PlanKey

_COMPILE = "from glass_edge.runtime.engines.tensorrt.compile import main; main()"
_KILLED = -getattr(signal, "SIGKILL", 9)  # Windows has no such signal, and no such code
_LAST_WORDS = 500  # characters of what a compiler that died wrote


def build_plan(
    graph: Path,
    key: PlanKey,
    target: Path,
    timings: Path | None,
    progress: Progress,
) -> Built:
    """Build a graph and write its plan to ``target``; ``timings`` keeps the times of kernels.

    Raises:
        EngineError: there is no plan; the message says why.
    """
    kept = str(timings.resolve()) if timings else None
    request = msgspec.json.encode(Request(str(graph.resolve()), key, str(target.resolve()), kept))
    with (
        progress(f"building the {key.role} graph") as report,
        tempfile.TemporaryFile() as words,
        subprocess.Popen(  # noqa: S603
            python_command(_COMPILE),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
        ) as process,
    ):
        try:
            for message in _messages(process, request):
                match message:
                    case Step():
                        report(message.step, message.steps, message.phase)
                    case Refusal():
                        raise EngineError(message.message)
                    case Result():
                        return message.built
            code = process.wait()  # it closed its output, so it is ending
        finally:
            process.kill()
        words.seek(0)
        raise EngineError(_died(key, code, words.read().decode(errors="replace")))


def _messages(process: subprocess.Popen[bytes], request: bytes) -> Iterator[Message]:
    """Yield what the compiler says until it ends, past the library's own words."""
    stdin, stdout = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
    with suppress(BrokenPipeError):  # who died before reading tells by the code it ended with
        os.write(stdin.fileno(), request + b"\n")
    for line in stdout:
        with suppress(msgspec.MsgspecError):
            yield msgspec.json.decode(line, type=Message)


def _died(key: PlanKey, code: int, words: str) -> str:
    if code == _KILLED:
        how = (
            "was killed, most likely because memory ran out. Use a smaller --max-batch, or close "
            "what else uses the memory"
        )
    else:
        last = words.strip()[-_LAST_WORDS:] or "no message"
        how = f"ended with code {code}: {last}"
    return f"{key.library}'s build of the {key.role} graph {how}."
