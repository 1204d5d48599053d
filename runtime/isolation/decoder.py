"""Decoding in processes of their own, which may crash or hang without ending the run.

Image libraries are written in C, and files come from strangers. Each worker has a process that
reads and decodes for it. One that dies or takes too long while it decodes costs its image a
verdict; while it reads what the file says of itself, it costs only that. It is started again.
Pixels come back in memory that both share, so they are not copied.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import subprocess
from typing import IO, cast

import msgspec
import numpy as np

from ..claims.claims import ClaimOptions, Claims, Credentials, Provenance
from ..images.encoded import CHANNELS, Decoded, DecodeOptions, EncodedImage, Rgb
from ..machine.errors import EngineError, ImageError
from ..machine.interpreter import python_command
from .protocol import CLAIMS, DECODE, LOOK, Answer, request

SECONDS = 60.0  # for any one request
_EXTRA_TIMEOUT = 5.0  # seconds by which a process's own limit exceeds its parent's
_SERVE = "from glass_edge.runtime.isolation.serving import serve; serve({memory}, {seconds})"


class _GoneError(Exception):
    """The process has no answer any more; the message says what became of it."""


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

    def read_claims(self, content: bytes, options: ClaimOptions) -> Claims:
        """Read what a file says of itself, as :func:`..claims.reading.read_claims` does.

        If that crashes or takes too long, the file is still decoded: the claims say what happened.
        """
        try:
            line = self._exchange(request(CLAIMS, content, options))
        except _GoneError as error:
            return _unread(options, f"the reader {error}")
        return msgspec.json.decode(line, type=Claims)

    def read_header(self, content: bytes, options: DecodeOptions) -> EncodedImage:
        """Read a header in the process, as :func:`.decode.read_header` does.

        The image that is returned is decoded in the process, too.

        Raises:
            ImageError: it cannot be judged, or its decoder crashed or hung.
        """
        answer = self._ask(request(LOOK, content, options))
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
        answer = self._ask(DECODE)
        size = answer.width * answer.height * CHANNELS
        try:
            mapped = mmap.mmap(self._memory.fileno(), size, access=mmap.ACCESS_READ)
        except OSError as error:
            raise ImageError(f"its pixels cannot be shared: {error.strerror}.") from None
        pixels = np.frombuffer(mapped, np.uint8)
        rgb = pixels.reshape(answer.height, answer.width, CHANNELS)
        return Decoded(rgb, answer.damaged)

    def _ask(self, request: bytes) -> Answer:
        try:
            line = self._exchange(request)
        except _GoneError as error:
            raise ImageError(f"its decoder {error}.") from None
        answer = msgspec.json.decode(line, type=Answer)
        if answer.error is not None:
            raise ImageError(answer.error)
        return answer

    def _exchange(self, request: bytes) -> bytes:
        """Send a request and return the line that answers it."""
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
            raise _GoneError(f"was stopped after {self._seconds:g} seconds")
        if not line.endswith(b"\n"):
            raise _GoneError(f"crashed ({self._end()})")
        return line

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


def _unread(options: ClaimOptions, reason: str) -> Claims:
    """Return the claims of a file that could not be asked."""
    if not options.provenance:
        return Claims()
    credentials = Credentials("unread", codes=(reason,))
    return Claims(provenance=Provenance((), credentials, options.trust_digest))
