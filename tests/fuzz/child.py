"""The process that reads damaged files: ``python -m fuzz.child MODULE:FUNCTION PIPE BYTES``.

It writes an empty line to the pipe once it is ready, reads inputs from standard input, each after
its length in four bytes, and writes one line of JSON for each. Standard output and error belong to
the libraries, which chatter.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from glass_edge import GlassError

_PEAK_IS_RESIDENT = "5"  # what /proc/self/clear_refs takes to forget the peak


def main() -> None:
    """Serve inputs until standard input ends."""
    name, pipe, limit = sys.argv[1:]
    module, function = name.split(":")
    target = getattr(importlib.import_module(module), function)
    resource.setrlimit(resource.RLIMIT_AS, (int(limit), int(limit)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(int(pipe), "w", buffering=1) as results:
        print(file=results)
        while length := sys.stdin.buffer.read(4):
            content = sys.stdin.buffer.read(*struct.unpack("<I", length))
            print(json.dumps(_measured(target, content)), file=results)


def _measured(target: Callable[[bytes], str], content: bytes) -> dict[str, object]:
    Path("/proc/self/clear_refs").write_text(_PEAK_IS_RESIDENT)
    before = resident()
    started = time.process_time()
    outcome, what = _outcome(target, content)
    return {
        "outcome": outcome,
        "what": what,
        "seconds": time.process_time() - started,
        "memory": resident("VmHWM") - before,
    }


def _outcome(target: Callable[[bytes], str], content: bytes) -> tuple[str, str]:
    try:
        return "read", target(content)
    except GlassError as error:
        sentence = str(error)
        return ("refused" if sentence and "Traceback" not in sentence else "fault"), sentence
    except BaseException as error:  # what no caller of the runtime expects
        return "fault", f"{type(error).__name__}: {error}"


def resident(name: str = "VmRSS") -> int:
    """Return this process's resident memory in bytes; ``VmHWM`` is its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


if __name__ == "__main__":
    main()
