"""Damage: bytes changed, cut, repeated and exchanged, lengths made absurd."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence

_ABSURD = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000,
           0xFFFFFFFE, 0xFFFFFFFF)  # fmt: skip
_HEADER = 200  # bytes in which most formats say their sizes
_EVERY = 1000  # bytes at each of which a file is cut; the headers of a JPEG end about there
_STEPS = 100  # cuts beyond them
PNG = b"\x89PNG\r\n\x1a\n"


def truncated(content: bytes) -> Iterator[bytes]:
    """Cut at every byte of the headers, then in steps."""
    yield from (content[:size] for size in range(min(_EVERY, len(content))))
    yield from (content[:size] for size in range(_EVERY, len(content), len(content) // _STEPS + 1))


def mutated(seeds: Sequence[bytes], seed: str) -> bytes:
    """Damage one of the files in one to four ways; the same ``seed`` gives the same bytes."""
    chance = random.Random(seed)
    content = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
        chance.choice(_WAYS)(content, chance, seeds)
    if content.startswith(PNG) and chance.random() < 0.7:
        _mend_checksums(content)
    return bytes(content)


def _place(content: bytearray, chance: random.Random) -> int:
    """Choose a position, in the header as often as anywhere."""
    return chance.randrange(max(1, chance.choice((len(content), min(_HEADER, len(content))))))


def _span(content: bytearray, chance: random.Random) -> slice:
    start = _place(content, chance)
    return slice(start, start + chance.choice((1, 2, 4, 8, 12, 30, 100, 1000)))


def _change(content: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    for _index in range(chance.choice((1, 1, 2, 4, 16, 64))):
        if content:
            content[_place(content, chance)] = chance.randrange(256)


def _flip(content: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    if content:
        content[_place(content, chance)] ^= 1 << chance.randrange(8)


def _absurd(content: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    start, kind = _place(content, chance), chance.choice(["<B", ">H", "<H", ">I", "<I"])
    packed = struct.pack(kind, chance.choice(_ABSURD) & (256 ** struct.calcsize(kind) - 1))
    content[start : start + len(packed)] = packed


def _delete(content: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    del content[_span(content, chance)]


def _repeat(content: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    place = _place(content, chance)
    content[place:place] = content[_span(content, chance)] * chance.choice((1, 2, 50))


def _insert(content: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    place = _place(content, chance)
    content[place:place] = chance.randbytes(chance.choice((1, 4, 40)))


def _splice(content: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    other = chance.choice(seeds)
    content[_place(content, chance) :] = other[chance.randrange(len(other)) :]


def _cut(content: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    del content[_place(content, chance) :]


_WAYS: Sequence[Callable[[bytearray, random.Random, Sequence[bytes]], None]] = (
    *(_change, _change, _flip, _flip, _absurd, _absurd, _absurd),
    *(_delete, _repeat, _insert, _splice, _cut),
)


def _mend_checksums(content: bytearray) -> None:
    """Make a PNG's checksums right, so that its decoders read on."""
    place = len(PNG)
    while place + 12 <= len(content):
        (size,) = struct.unpack_from(">I", content, place)
        end = place + 8 + size
        if end + 4 > len(content):
            return
        struct.pack_into(">I", content, end, zlib.crc32(content[place + 4 : end]))
        place = end + 4
