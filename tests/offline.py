"""Runs programs and tells whether they or their child processes asked for the network.

Linux tells it (seccomp_unotify(2)), whatever language the program is written in. Resolving a name
counts, too.
"""

from __future__ import annotations

import ctypes
import os
import platform
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from fcntl import ioctl
from pathlib import Path
from typing import NamedTuple


class Calls(NamedTuple):
    """Linux's numbers of system calls."""

    seccomp: int
    connect: int
    sendto: int


CALLS = {"x86_64": Calls(317, 42, 44), "aarch64": Calls(277, 203, 206)}
SUPPORTED = sys.platform == "linux" and platform.machine() in CALLS
ASKED = 86  # the exit code for a program that asked for the network
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER = 1, 8
SECCOMP_RET_ALLOW, SECCOMP_RET_USER_NOTIF = 0x7FFF0000, 0x7FC00000
SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND = 0xC0502100, 0xC0182101
SECCOMP_USER_NOTIF_FLAG_CONTINUE = 1
NOTIFICATION = struct.Struct("QIIiIQ6Q")  # id, thread, flags; call, architecture, place, arguments
RESPONSE = struct.Struct("QqiI")
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF: a word of seccomp's data, constants


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def listen(calls: Calls) -> int:
    """Stop this process and its children at these calls; return the listening descriptor."""
    steps = (
        (LOAD, 0, 0, 0),  # the call's number
        (JUMP_IF_EQUAL, 2, 0, calls.connect),
        (JUMP_IF_EQUAL, 1, 0, calls.sendto),
        (RETURN, 0, 0, SECCOMP_RET_ALLOW),
        (RETURN, 0, 0, SECCOMP_RET_USER_NOTIF),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = _Program(len(steps), ctypes.addressof(code))
    kernel = ctypes.CDLL(None, use_errno=True)
    kernel.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    how = SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER
    listener: int = kernel.syscall(calls.seccomp, *how, ctypes.byref(program))
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return listener


def goes_out(listener: int, calls: Calls) -> bool:
    """Whether a stopped process would leave this machine; one that would not is let go on."""
    notification = bytearray(NOTIFICATION.size)
    ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, notification)
    number, thread, _, call, _, _, *arguments = NOTIFICATION.unpack(notification)
    address = arguments[1] if call == calls.connect else arguments[4]
    if address:  # without one it sends to where it is connected
        with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            if int.from_bytes(memory.read(2), sys.byteorder) != socket.AF_UNIX:
                return True
    answer = RESPONSE.pack(number, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE)
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, answer)
    return False


def run_watched(command: Sequence[str]) -> int:
    """Run a program to its end, or until it asks for the network; return its exit code."""
    calls = CALLS[platform.machine()]
    listener = listen(calls)
    with subprocess.Popen(command) as process:
        poll = select.poll()
        for source in (listener, os.pidfd_open(process.pid)):
            poll.register(source, select.POLLIN)
        while listener in dict(poll.poll()):
            if goes_out(listener, calls):
                process.kill()
                return ASKED
        return process.wait()


def run_offline(
    command: Sequence[object], place: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a program in ``place``, with empty folders there, ``home`` and ``tmp``, for its own.

    It sees none of this environment's variables, because ``CI`` and others silence libraries that
    are not silent on a user's machine. The exit code is :data:`ASKED` if it asked for the network.
    """
    home, scratch = place / "home", place / "tmp"
    home.mkdir()
    scratch.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(scratch)}
    return subprocess.run(
        [sys.executable, __file__, *map(str, command)],
        cwd=place,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=600,
    )


if __name__ == "__main__":
    sys.exit(run_watched(sys.argv[1:]))
