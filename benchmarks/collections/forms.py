"""The same images in every form that a collection may have: a folder, archives and a table."""

from __future__ import annotations

import io
import itertools
import shutil
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

FOLDER, TAR = "photos", "photos.tar"
FORMS = (FOLDER, TAR, "photos.tar.gz", "photos.zip", "photos.parquet")
"""What :func:`write_forms` makes; the first is what the others are compared with."""

_GZIP_LEVEL = 6  # gzip's default
_GROUP_ROWS = 100  # of Hugging Face's tables of images
_QUALITY = 90


def write_forms(images: Sequence[str], repeat: int, place: Path) -> int:
    """Write all of :data:`FORMS` into a folder, with the images in the same order.

    Args:
        images: files.
        repeat: how often each of them is there, under different names.
        place: an empty folder.

    Returns:
        How many images each form holds.
    """
    photos = place / FOLDER
    photos.mkdir()
    for number, image in enumerate(itertools.chain.from_iterable([images] * repeat)):
        # A copy, as in the other forms: no file is read twice.
        shutil.copyfile(image, photos / f"{number:08}{Path(image).suffix}")
    files = sorted(photos.iterdir())
    with tarfile.open(place / TAR, "w") as tar:
        _fill(tar, files)
    with tarfile.open(place / "photos.tar.gz", "w:gz", compresslevel=_GZIP_LEVEL) as tar:
        _fill(tar, files)
    with zipfile.ZipFile(place / "photos.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.name)
    _write_table(files, place / "photos.parquet")
    return len(files)


def _fill(tar: tarfile.TarFile, files: Sequence[Path]) -> None:
    for file in files:
        tar.add(file, file.name)


def _write_table(files: Sequence[Path], path: Path) -> None:
    """Write a table of images as Hugging Face's ``datasets`` writes it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image)])
    with pq.ParquetWriter(path, schema) as table:
        for start in range(0, len(files), _GROUP_ROWS):
            rows = [
                {"bytes": file.read_bytes(), "path": file.name}
                for file in files[start : start + _GROUP_ROWS]
            ]
            table.write_table(pa.table({"image": rows}, schema))


def write_small_tar(images: Sequence[str], count: int, side: int, path: Path) -> None:
    """Write a tar of so many small JPEG images, made of the given ones in turn.

    Args:
        images: files.
        count: how many members the tar has.
        side: the longer side of each, in pixels.
        path: the tar.
    """
    contents = [_scaled_down(image, side) for image in images]
    with tarfile.open(path, "w") as tar:
        for number, content in zip(range(count), itertools.cycle(contents), strict=False):
            member = tarfile.TarInfo(f"{number // 1000:03}/{number:08}.jpg")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def _scaled_down(path: str, side: int) -> bytes:
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((side, side))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
