"""Images to send: photographs whose records are compared, and files of every hostile kind."""

from __future__ import annotations

import io
import random
import zlib
from collections.abc import Sequence
from functools import cache

import numpy as np
import test_hostile_images as hostile
from conftest import DATA, EXAMPLES
from fuzz.bombs import bombs
from fuzz.cut import cut_short
from fuzz.kinds import raw_files
from fuzz.mutate import mutated
from fuzz.seeds import PHOTOGRAPH, seeds
from PIL import Image

_SIDE = 320  # pixels; small, so that thousands take minutes
_FORMATS = (("JPEG", {"quality": 85}), ("PNG", {}), ("WEBP", {"quality": 80}))


@cache
def photographs() -> Sequence[bytes]:
    """Return small photographs in three formats; each is judged."""
    found = []
    for number, path in enumerate(sorted(EXAMPLES.glob("*/*.jpg"))[:6]):
        kind, options = _FORMATS[number % len(_FORMATS)]
        with Image.open(path) as image:
            image.thumbnail((_SIDE, _SIDE))
            written = io.BytesIO()
            image.convert("RGB").save(written, kind, **options)
            found.append(written.getvalue())
    return found


@cache
def _made_to_exhaust() -> Sequence[bytes]:
    """Bombs of the tests of hostile images, and what once crashed a decoder; each below 1 MiB."""
    with Image.open(PHOTOGRAPH) as image:
        picture = image.convert("RGB").resize((64, 48))
    small = bytes(hostile.small("PNG"))
    text = hostile.chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8))) * 3
    found = [
        *(make() for make in hostile.BOMBS),
        *(content for files in bombs(picture).values() for content in files),
        *raw_files(np.asarray(picture)),
        *(path.read_bytes() for path in sorted((DATA / "crashes").iterdir())),
        hostile.progressive(1000, 13_000),
        hostile.grey_png(5_000_000, 1),
        hostile.exif_absurd(),
        hostile.gif_without_end(10_000),
        small[:33] + text + small[33:],
        bytes(hostile.small("EPS")),
    ]
    return [content for content in found if len(content) < 1 << 19]


@cache
def _seeds() -> Sequence[Sequence[bytes]]:
    return list(seeds().values())


def hostile_file(chance: random.Random) -> bytes:
    """Return a file that may be an image, and that nobody would send in good faith."""
    return chance.choice((_mutated, _mutated, _mutated, _cut, _bomb, _rubbish))(chance)


def _mutated(chance: random.Random) -> bytes:
    return mutated(chance.choice(_seeds()), str(chance.random()))


def _cut(chance: random.Random) -> bytes:
    whole = chance.choice(chance.choice(_seeds()))
    if chance.random() < 0.5:
        return whole[: chance.randrange(len(whole))]
    return cut_short(whole, chance.random())


def _bomb(chance: random.Random) -> bytes:
    return chance.choice(_made_to_exhaust())


def _rubbish(chance: random.Random) -> bytes:
    start = chance.choice((b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"BM"))
    return start + chance.randbytes(chance.choice((0, 1, 100, 10_000)))
