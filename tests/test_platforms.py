"""What Linux has and other systems lack is not missed there.

Names that Windows lacks are taken away from a process before it loads glass-edge. This is no test
on Windows; `make lint` also checks the runtime against Windows' standard library.
"""

from __future__ import annotations

import json
import subprocess
import sys

LACKING = """
import os, signal
import numpy  # which looks at the system when it is loaded
for module, names in (
    (os, "uname sched_getaffinity memfd_create sysconf getuid geteuid O_NONBLOCK"),
    (signal, "SIGKILL SIGALRM SIGHUP setitimer ITIMER_REAL"),
):
    for name in names.split():
        delattr(module, name)
"""
OPENED = """
os.O_BINARY = 1 << 30  # Linux passes over what it does not know
opened, real_open = {}, os.open
def open_and_note(path, flags, *arguments):
    opened[str(path)] = flags
    return real_open(path, flags, *arguments)
os.open = open_and_note
"""


def python(program: str, *arguments: object):
    return subprocess.run(
        [sys.executable, "-c", LACKING + program, *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def test_images_are_judged(vit_bundle, photographs, tmp_path):
    output = tmp_path / "verdicts.jsonl"
    program = "from glass_edge.runtime.commands.run import main; main()"
    bundle = ("--bundle", vit_bundle.path)
    done = python(program, *photographs[:2], *bundle, "-o", output)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["status"] for line in output.open()] == ["ok", "ok"]
    done = python(program, photographs[0], *bundle, "--isolate")
    assert done.returncode == 2
    assert "--isolate needs Linux: leave it out." in done.stderr


def test_lines_end_as_they_were_written(tmp_path):
    """Windows turns line ends into two bytes in files that are not opened as binary."""
    output = tmp_path / "verdicts.jsonl"
    done = python(
        OPENED + "import sys\n"
        "from glass_edge.runtime.commands.running.output import open_output\n"
        "with open_output(sys.argv[1]) as sink: sink.append(b'{}')\n"
        "assert opened[sys.argv[1]] & os.O_BINARY",
        output,
    )
    assert done.returncode == 0, done.stderr
    assert output.read_bytes() == b"{}"


def test_the_machine_is_described():
    done = python(
        "from glass_edge.runtime.machine.environment import environment\n"
        "assert environment().processor and environment().cpus >= 1"
    )
    assert done.returncode == 0, done.stderr


def test_a_compiler_that_died_is_one_sentence():
    done = python(
        "from types import SimpleNamespace\n"
        "from glass_edge.runtime.engines.tensorrt.build import _died\n"
        "key = SimpleNamespace(library='tensorrt-rtx', role='local')\n"
        "print(_died(key, 3, 'out of luck'))"
    )
    assert (
        done.stdout == "tensorrt-rtx's build of the local graph ended with code 3: out of luck.\n"
    )
