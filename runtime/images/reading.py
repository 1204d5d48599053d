"""An image as users give it, to the bytes or pixels that it is decoded from."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from ..finding.files import without_waiting
from ..finding.stored import DEFAULT_MAX_BYTES, StoredImage, check_bytes
from ..machine.errors import ImageError, InputError, UnreadableError
from .encoded import Rgb

Content: TypeAlias = bytes | Rgb | Image.Image
"""What an image is decoded from: a file's bytes, RGB pixels, or Pillow's image."""
ImageSource: TypeAlias = str | os.PathLike[str] | StoredImage | Content
"""An image as users give it: a path, one that lies in an archive, a table or a bucket, an encoded
file's bytes, RGB pixels, or Pillow's image."""


def read_image(source: ImageSource, *, max_bytes: int = DEFAULT_MAX_BYTES) -> Content:
    """Return what an image is decoded from: the bytes of its file, or the source itself.

    Files larger than ``max_bytes`` are refused before they are read.

    Raises:
        ImageError: it is no file, or one that is too large.
        UnreadableError: the file is not there or cannot be read.
        InputError: the source is of another type.
    """
    if isinstance(source, bytes | np.ndarray | Image.Image):
        return source
    if isinstance(source, StoredImage):
        return read_file(source, max_bytes=max_bytes)
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            "an image must be given as a path, a file's bytes, an RGB array or a PIL image, not as "
            f"{type(source).__name__}."
        )
    if not os.fspath(source):
        raise ImageError("its name is empty.")
    return read_file(Path(source), max_bytes=max_bytes)


def read_file(path: Path | StoredImage, *, max_bytes: int = DEFAULT_MAX_BYTES) -> bytes:
    """Return the bytes of a file, or of what lies elsewhere; see :func:`read_image`.

    Raises:
        ImageError: it is no file, or one that is too large.
        UnreadableError: it is not there or cannot be read.
    """
    if isinstance(path, StoredImage):
        return path.read(max_bytes)
    try:
        found = path.stat()
        if stat.S_ISREG(found.st_mode):  # else left alone: some devices act on being opened
            with open(path, "rb", opener=without_waiting) as file:
                found = os.fstat(file.fileno())  # which may be another one by now
                if stat.S_ISREG(found.st_mode):
                    check_bytes(found.st_size, max_bytes)
                    return file.read(found.st_size)
    except (FileNotFoundError, NotADirectoryError):  # such as what an archive does not hold
        raise UnreadableError("there is no such file.") from None
    except OSError as error:
        raise UnreadableError(f"the file cannot be read: {error.strerror}.") from None
    except ValueError as error:  # a NUL in its name
        raise ImageError(f"the file cannot be read: {error}.") from None
    if stat.S_ISDIR(found.st_mode):
        raise ImageError("it is a folder, not an image.")
    # Reading a pipe or a device might never end.
    raise ImageError("it is a pipe, socket or device, not a file.")
