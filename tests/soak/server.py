"""A server as users start it, and what the system and the server say of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from conftest import PROGRAMS

_START = 120.0  # seconds
_STOP = 60.0
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens addresses of this machine, whatever proxy the environment names."""
_GREETING = re.compile(r"http://127\.0\.0\.1:(\d+)")
# With one arena, and large blocks given back at once, what is free does not look like growth.
_ENVIRONMENT = os.environ | {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}


@dataclass(frozen=True)
class Held:
    """What a server holds at a moment.

    Attributes:
        memory: resident bytes of the process.
        helpers: resident bytes of its children, pages shared among them counted for each.
        threads, files, children: of the process, how many.
        zombies: children that ended and were not waited for.
    """

    memory: int
    helpers: int
    threads: int
    files: int
    children: int
    zombies: int


class Server:
    """``glass-serve`` in a process of its own, for a block."""

    def __init__(self, folder: Path, bundle: Path, *arguments: str) -> None:
        """Start it; its output goes to a folder."""
        self._said, self._lines = folder / "stderr", folder / "stdout"
        command = [PROGRAMS / "glass-serve", bundle, "--port", "0", *arguments]
        with self._said.open("wb") as said, self._lines.open("wb") as lines:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=lines, stderr=said, env=_ENVIRONMENT
            )
        try:
            self.port = int(_until(self._greeting, _START)[1])
        except BaseException:
            self._process.kill()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def said(self) -> str:
        """What it said on standard error, without its greeting."""
        text = self._said.read_text()
        return text.partition("\n")[2] if _GREETING.search(text) else text

    @property
    def journal(self) -> Iterator[dict[str, object]]:
        """The lines that it wrote of requests."""
        with self._lines.open("rb") as lines:
            yield from map(json.loads, lines)

    def alive(self) -> bool:
        return self._process.poll() is None

    def get(self, path: str) -> tuple[int, bytes]:
        with DIRECT.open(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return answer.status, answer.read()

    def gauge(self, name: str) -> float:
        """Return a value of its metrics."""
        found = re.search(rf"^{name} (\S+)$", self.get("/metrics")[1].decode(), re.MULTILINE)
        assert found is not None, name
        return float(found[1])

    def settle(self, files: int | None = None) -> Held:
        """Wait until nothing is held, and no more files are open than given; return what is."""
        _until(lambda: self.gauge("glass_queue_images") + self.gauge("glass_queue_bytes") == 0, 120)
        if files is not None:
            _until(lambda: self.held().files <= files, 5, fails=False)
        return self.held()

    def held(self) -> Held:
        place = Path("/proc", str(self.pid))
        status = _status(place)
        names = [name for task in (place / "task").iterdir()
                 for name in (task / "children").read_text().split()]  # fmt: skip
        children = [_status(Path("/proc", name)) for name in names]
        return Held(
            memory=_kibibytes(status),
            helpers=sum(map(_kibibytes, children)),
            threads=int(status["Threads"]),
            files=len(list((place / "fd").iterdir())),
            children=len(children),
            zombies=sum(each["State"].startswith("Z") for each in children),
        )

    def stop(self) -> int:
        """End it as a supervisor does, and return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(_STOP)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self.alive():
            self._process.kill()
            self._process.wait()

    def _greeting(self) -> re.Match[str] | None:
        if not self.alive():
            raise RuntimeError(self._said.read_text())
        return _GREETING.search(self._said.read_text())


def _status(place: Path) -> dict[str, str]:
    lines = (place / "status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _kibibytes(status: dict[str, str]) -> int:
    return int(status.get("VmRSS", "0 kB").split()[0]) << 10


def _until(look: Callable[[], object], seconds: float, *, fails: bool = True) -> object:
    """Return what ``look`` finds as soon as that is something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            if fails:
                raise TimeoutError(f"not within {seconds:g} s")
            break
        time.sleep(0.1)
    return found
