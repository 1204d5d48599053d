"""Lines of text for whoever reads standard output, or does not."""

from __future__ import annotations

import os
import threading
from collections import deque

_MOST_WAITING = 16 << 20  # bytes of lines that nobody has read
_CLOSE_TIMEOUT = 2.0  # seconds that those have in the end


class Lines:
    """Writes lines from a thread of its own, so that no request waits for whoever reads them.

    Where nobody reads, lines are lost rather than hold the server up or fill its memory.
    """

    def __init__(self, descriptor: int) -> None:
        """Write to an open file."""
        self._descriptor = descriptor
        self._changed = threading.Condition()  # guards what follows
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._thread = threading.Thread(target=self._write_all, name="glass-lines", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Have a line written; its end is added."""
        with self._changed:
            if not self._ended and self._size < _MOST_WAITING:
                self._waiting.append(line + b"\n")
                self._size += len(line)
                self._changed.notify()

    def close(self) -> None:
        """Write what waits, as far as it is read soon."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join(_CLOSE_TIMEOUT)

    def _next(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            if not self._waiting:
                return None
            line = self._waiting.popleft()
            self._size -= len(line) - 1
            return line

    def _write_all(self) -> None:
        while (line := self._next()) is not None:
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except BrokenPipeError:
                break  # whoever read has gone, and will not come back
            except OSError:
                continue  # as on a full disk, which may have room for later lines
        with self._changed:
            self._ended = True
            self._waiting.clear()
