"""The process that decodes: it answers requests until its parent is gone."""

from __future__ import annotations

import mmap
import os
import signal
import sys
from typing import IO, TypeVar

import msgspec
import numpy as np

from ..claims.claims import ClaimOptions
from ..claims.reading import read_claims
from ..images.decode import read_header, settle_pillow
from ..images.encoded import CHANNELS, DecodeOptions, EncodedImage
from ..machine.errors import ImageError
from .protocol import CLAIMS, LOOK, SIZES, Answer

_Options = TypeVar("_Options", ClaimOptions, DecodeOptions)


def serve(memory: int, seconds: float) -> None:
    """Answer requests on standard input until it is closed; pixels go to the file ``memory``.

    A request that takes longer than ``seconds`` ends the process, because the parent that should
    have stopped it is gone.
    """
    if sys.platform != "linux":  # as IsolatedDecoder has said
        return
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    settle_pillow()
    stdin, stdout = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that nothing a library prints is taken for an answer
    serving = _Serving(memory, stdin)
    while kind := stdin.read(1):
        signal.setitimer(signal.ITIMER_REAL, seconds)
        answer = msgspec.json.encode(serving.answer(kind))
        signal.setitimer(signal.ITIMER_REAL, 0)
        stdout.write(answer + b"\n")
        stdout.flush()


class _Serving:
    """Answers one request after the other; keeps the image whose header was read."""

    def __init__(self, memory: int, stdin: IO[bytes]) -> None:
        self._memory, self._stdin = memory, stdin
        self._image: EncodedImage | None = None

    def answer(self, kind: bytes) -> msgspec.Struct:
        """Read the rest of a request, and return what it asks for."""
        if kind == CLAIMS:
            options, content = self._rest(ClaimOptions)
            return read_claims(content, options)
        try:
            return self._look() if kind == LOOK else self._decode()
        except ImageError as error:
            return Answer(error=str(error))

    def _look(self) -> Answer:
        options, content = self._rest(DecodeOptions)
        settle_pillow(options.max_pixels)
        self._image = image = read_header(content, options)
        return Answer(image.width, image.height, image.peak)

    def _decode(self) -> Answer:
        image, self._image = self._image, None  # and its file
        if image is None:
            return Answer()
        damaged = _write(self._memory, image)
        return Answer(image.width, image.height, image.peak, damaged)

    def _rest(self, options: type[_Options]) -> tuple[_Options, bytes]:
        size, rules = SIZES.unpack(self._stdin.read(SIZES.size))
        found = msgspec.json.decode(self._stdin.read(rules), type=options)
        return found, self._stdin.read(size)


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
