"""Decoding in processes of their own, which may crash or hang without ending the run.

Image libraries are written in C, and files come from strangers. Each worker has a process that
decodes for it; one that dies or takes too long costs its image a verdict, and is started again.
Pixels come back in memory that both share, so they are not copied.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import struct
import subprocess
import sys
from typing import IO, cast

import msgspec
import numpy as np

from ..machine.errors import EngineError, ImageError
from ..machine.interpreter import python_command
from .decode import read_header, settle_pillow
from .encoded import CHANNELS, Decoded, DecodeOptions, EncodedImage, Rgb

SECONDS = 60.0  # for any one image
_LOOK, _DECODE = b"L", b"D"
_SIZES = struct.Struct("<QQ")  # of the file, and of the options before it, in bytes
_EXTRA_TIMEOUT = 5.0  # seconds by which a process's own limit exceeds its parent's
_SERVE = "from glass_edge.runtime.images.isolate import serve; serve({memory}, {seconds})"


class _Answer(msgspec.Struct):
    """What the process answers: facts about the image, or why it cannot be judged."""

    width: int = 0
    height: int = 0
    peak: float = 0.0
    damaged: bool = False
    error: str | None = None


class IsolatedDecoder:
    """A process that decodes for one thread, started when it is needed."""

    def __init__(self, seconds: float = SECONDS) -> None:
        """Stop the process when an image takes longer.

        Raises:
            EngineError: this system has no memory to share (it is not Linux).
        """
        if not hasattr(os, "memfd_create"):
            raise EngineError("--isolate needs Linux: leave it out.")
        self._seconds = seconds
        self._memory = os.fdopen(os.memfd_create("glass-edge pixels"), "rb", buffering=0)
        self._process: subprocess.Popen[bytes] | None = None

    def read_header(self, content: bytes, options: DecodeOptions) -> EncodedImage:
        """Read a header in the process, as :func:`.decode.read_header` does.

        The image that is returned is decoded in the process, too.

        Raises:
            ImageError: it cannot be judged, or its decoder crashed or hung.
        """
        rules = msgspec.json.encode(options)
        sizes = _SIZES.pack(len(content), len(rules))
        answer = self._ask(b"".join([_LOOK, sizes, rules, content]))
        return EncodedImage(answer.width, answer.height, "isolated", self._decode, answer.peak)

    def shrink(self, kept: int) -> None:
        """Give shared memory beyond ``kept`` bytes back; pixels returned before are gone."""
        if os.fstat(self._memory.fileno()).st_size > kept:
            os.ftruncate(self._memory.fileno(), kept)

    def close(self) -> None:
        """End the process and give the memory back; once more does nothing."""
        self._kill()
        self._memory.close()

    def _decode(self, _: Rgb | None) -> Decoded:
        """Return the pixels of the image looked at last, in memory that the next one reuses."""
        answer = self._ask(_DECODE)
        size = answer.width * answer.height * CHANNELS
        try:
            mapped = mmap.mmap(self._memory.fileno(), size, access=mmap.ACCESS_READ)
        except OSError as error:
            raise ImageError(f"its pixels cannot be shared: {error.strerror}.") from None
        pixels = np.frombuffer(mapped, np.uint8)
        rgb = pixels.reshape(answer.height, answer.width, CHANNELS)
        return Decoded(rgb, answer.damaged)

    def _ask(self, request: bytes) -> _Answer:
        process = self._process or self._start()
        stdin, stdout = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        try:
            stdin.write(request)
            stdin.flush()
            ready, _, _ = select.select([stdout], [], [], self._seconds)
            line = stdout.readline() if ready else None
        except BrokenPipeError:
            line = b""
        if line is None:
            self._kill()
            raise ImageError(f"its decoder was stopped after {self._seconds:g} seconds.")
        if not line:
            raise ImageError(f"its decoder crashed ({self._end()}).")
        answer = msgspec.json.decode(line, type=_Answer)
        if answer.error is not None:
            raise ImageError(answer.error)
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        memory = self._memory.fileno()
        self._process = subprocess.Popen(  # noqa: S603
            python_command(_SERVE.format(memory=memory, seconds=self._seconds + _EXTRA_TIMEOUT)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[memory],
            start_new_session=True,  # Ctrl-C is for the parent, not for the decoder
        )
        return self._process

    def _end(self) -> str:
        """Say how the process ended, and forget it."""
        code = 0
        if self._process:
            code, self._process = self._process.wait(), None
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def _kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None


def serve(memory: int, seconds: float) -> None:
    """Answer requests on standard input until it is closed; pixels go to the file ``memory``.

    A request that takes longer than ``seconds`` ends the process, because the parent that should
    have stopped it is gone.
    """
    if sys.platform != "linux":  # as IsolatedDecoder has said
        return
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    stdin, stdout = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that nothing a library prints is taken for an answer
    image: EncodedImage | None = None
    while kind := stdin.read(1):
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            if kind == _LOOK:
                size, rules = _SIZES.unpack(stdin.read(_SIZES.size))
                options = msgspec.json.decode(stdin.read(rules), type=DecodeOptions)
                settle_pillow(options.max_pixels)
                image = read_header(stdin.read(size), options)
            damaged = kind == _DECODE and image is not None and _write(memory, image)
            answer = _answer(image, damaged=damaged)
        except ImageError as error:
            answer = _Answer(error=str(error))
        if kind == _DECODE:
            image = None  # and its file
        signal.setitimer(signal.ITIMER_REAL, 0)
        stdout.write(msgspec.json.encode(answer) + b"\n")
        stdout.flush()


def _answer(image: EncodedImage | None, *, damaged: bool) -> _Answer:
    return _Answer(image.width, image.height, image.peak, damaged) if image else _Answer()


def _write(memory: int, image: EncodedImage) -> bool:
    """Decode an image into the shared file, growing it as needed; the parent shrinks it.

    Returns:
        Whether a part of the image is missing.
    """
    size = image.width * image.height * CHANNELS
    if os.fstat(memory).st_size < size:
        os.ftruncate(memory, size)
    buffer = np.frombuffer(mmap.mmap(memory, size), np.uint8)
    rgb, damaged = image.decode(buffer)
    if not np.shares_memory(rgb, buffer):
        buffer[:] = rgb.ravel()
    return damaged
