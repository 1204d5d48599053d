"""Forms as clients send them, and as they should not."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from fuzz.mutate import mutated

from .pictures import hostile_file, photographs

BOUNDARY = "soak-boundary"
KIND = f"multipart/form-data; boundary={BOUNDARY}"
_NAMES = ("a.jpg", "", "Bild \u00e4.png", "../../etc/passwd", 'quo\\"ted', "\U0001f408" * 50)
_HUGE = 20_000  # bytes of a part's header


def part(content: bytes, name: str = "file", filename: str | None = "a.jpg") -> bytes:
    """Return a part of a form, the boundary before it."""
    disposition = f'form-data; name="{name}"'
    if filename is not None:
        disposition += f'; filename="{filename}"'
    head = f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n"
    return head.encode() + content + b"\r\n"


def form(parts: Sequence[bytes]) -> bytes:
    """Return a form of these parts."""
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def filename(chance: random.Random) -> str:
    """Return a name that a file might have."""
    return chance.choice(_NAMES)


def bad_form(chance: random.Random) -> tuple[str, str, bytes]:
    """Return what is wrong, a content type and a body that must be refused."""
    name = chance.choice(list(_BAD))
    kind, body = _BAD[name](chance)
    return name, kind, body


def damaged_form(chance: random.Random) -> bytes:
    """Return a form with damage anywhere, which may still be one."""
    contents = [chance.choice(photographs()), hostile_file(chance)]
    return mutated([form([part(content) for content in contents])], str(chance.random()))


def _good(chance: random.Random) -> bytes:
    return part(chance.choice(photographs()))


def _no_boundary(chance: random.Random) -> tuple[str, bytes]:
    return "multipart/form-data", form([_good(chance)])


def _other_boundary(chance: random.Random) -> tuple[str, bytes]:
    return "multipart/form-data; boundary=other", form([_good(chance)])


def _thousands(chance: random.Random) -> tuple[str, bytes]:
    return KIND, form([part(b"x")] * chance.randrange(1100, 4000))


def _fields(chance: random.Random) -> tuple[str, bytes]:
    return KIND, form([part(b"1", "crops", None), _good(chance)])


def _wrong_name(chance: random.Random) -> tuple[str, bytes]:
    return KIND, form([_good(chance), part(b"x", chance.choice(("image", "files", "", "\0")))])


def _huge_header(chance: random.Random) -> tuple[str, bytes]:
    name, value = chance.choice((("X-A", "a" * _HUGE), ("a" * _HUGE, "1")))
    head = f"--{BOUNDARY}\r\n{name}: {value}\r\n"
    return KIND, head.encode() + _good(chance).partition(b"\r\n")[2] + form([])


def _many_headers(chance: random.Random) -> tuple[str, bytes]:
    head = f"--{BOUNDARY}\r\n" + "A: b\r\n" * 2000
    return KIND, head.encode() + _good(chance).partition(b"\r\n")[2] + form([])


def _nested(_: random.Random) -> tuple[str, bytes]:
    inner = form([part(b"x")])
    head = f"--outer\r\nContent-Type: {KIND}\r\n\r\n".encode()
    return "multipart/form-data; boundary=outer", head + inner + b"\r\n--outer--\r\n"


def _empty(_: random.Random) -> tuple[str, bytes]:
    return KIND, b""


_BAD: dict[str, Callable[[random.Random], tuple[str, bytes]]] = {
    "no boundary": _no_boundary,
    "other boundary": _other_boundary,
    "thousands of parts": _thousands,
    "fields": _fields,
    "wrong name": _wrong_name,
    "huge header": _huge_header,
    "many headers": _many_headers,
    "nested": _nested,
    "empty": _empty,
}
