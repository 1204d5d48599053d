"""Which files of a folder are images, and why the others are passed over.

A known suffix decides, so that the files of a large collection need not be opened one by one.
Otherwise a file's first bytes decide.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

from .files import without_waiting
from .signatures import SIGNATURE_BYTES, FileFormat, Kind, file_format


class Reason(Enum):
    """Why something in a folder is passed over, in words for one and for several of its kind."""

    OTHER = ("file that is no image", "files that are no images")
    ARCHIVE = (
        "archive or table (name it to look inside)",
        "archives or tables (name them to look inside)",
    )
    UNREAD = ("image of a format that is not read", "images of formats that are not read")
    RAW = ("raw file", "raw files")
    HIDDEN = ("hidden image", "hidden images")
    HIDDEN_FOLDER = ("hidden folder", "hidden folders")
    SEARCHED = ("linked folder that is searched already", "linked folders searched already")
    ABOVE = ("link to a folder above", "links to folders above")
    NOWHERE = ("link that leads nowhere", "links that lead nowhere")
    SPECIAL = ("pipe, socket or device", "pipes, sockets or devices")

    @property
    def one(self) -> str:
        """What a single one is called."""
        return self.value[0]

    def of(self, count: int) -> str:
        """Return how many there are, as ``3 raw files``."""
        return f"{count} {self.value[count != 1]}"


Skip: TypeAlias = Callable[[str, Reason], None]
"""Is called with the path of each thing that is passed over, and the reason."""

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".parquet")
"""Suffixes of what may hold images, and is looked into if it is named."""


def in_silence(path: str, reason: Reason) -> None:
    """Say nothing about what is passed over; the default :data:`Skip`."""


_SUFFIXES: dict[str, str] = {
    "READ": """
        apng avif avifs bmp dib gif heic heics heif heifs hif icb insp j2c j2k jfi jfif jif jp2 jpc
        jpe jpeg jpeg_large jpf jpg jpg_large jps jpx mpo pbm pgm pjp pjpeg png png_large pnm ppm
        tga tif tiff vda vst webp
    """,
    "UNREAD": """
        ai bpg cur dcm dds djvu emf eps exr fit fits flif hdp hdr icns ico jng jxl jxr jxs kra mng
        ora pam pcx pfm ps psb psd qoi sgi svg svgz wdp wmf xbm xcf xpm
    """,
    "RAW": """
        3fr ari arw bay cap cr2 cr3 crw dcr dcs dng drf eip erf fff gpr iiq k25 kdc mdc mef mos mrw
        nef nrw orf pef ptx pxn r3d raf raw rw2 rwl rwz sr2 srf srw x3f
    """,
    "OTHER": """
        3gp 7z aac aae arrow avi bak bash bat bib bz2 c cfg class cmd conf cpp crc css csv db db3
        ddl desktop dll dmg doc docx dop dylib exe feather flac flv gz h h5 hdf5 hpp htm html ini
        insv ipynb iso jar java js json jsonl key lmdb lnk lock log lrv lst lz4 m2ts m4a m4v mat md
        md5 mdb mkv mov mp3 mp4 mpeg mpg mts nfo npy npz o odp ods odt ogg ogv onnx parquet pdf pem
        pickle pkl pp3 ppt pptx ps1 pt pth py pyc rar rst rtf safetensors sh sha1 sha256 so sql
        sqlite sqlite3 srt tar tex tfrecord tgz thm toml ts tsv txt url vtt wav webloc webm wmv xls
        xlsx xml xmp xz yaml yml zip zst
    """,
}  # fmt: skip
# A .thm is the thumbnail of a video or raw file.
_BY_SUFFIX = {
    f".{suffix}": Kind[kind] for kind, suffixes in _SUFFIXES.items() for suffix in suffixes.split()
}
_BECAUSE = {Kind.UNREAD: Reason.UNREAD, Kind.RAW: Reason.RAW, Kind.OTHER: Reason.OTHER}
_ARCHIVE_ENDS = re.compile(rf"[^/](?:{'|'.join(map(re.escape, ARCHIVES))})(?=/)", re.I)
_APPLE_DOUBLE = "._"  # prefix of the files that macOS keeps metadata of other files in


def reason_to_skip(entry: os.DirEntry[str]) -> Reason | None:
    """Return why an entry that is no folder is passed over, or ``None`` for an image.

    A file of unknown suffix that cannot be read counts as an image: its error record says that it
    cannot be read.
    """
    kind = _by_name(entry.name)
    if kind is None:
        if not _is_file(entry):
            return Reason.SPECIAL if os.path.exists(entry.path) else Reason.NOWHERE
        kind = _by_content(entry.path)
    return _reason(entry.name, kind)


def reason_to_skip_stored(path: str, first_bytes: Callable[[], bytes]) -> Reason | None:
    """Return why a file in an archive or a bucket is passed over, or ``None`` for an image.

    Args:
        path: where it lies in there; parts end with ``/``.
        first_bytes: returns its first :data:`.signatures.SIGNATURE_BYTES`; called only if its
            suffix says nothing.
    """
    *folders, name = path.split("/")
    if any(folder.startswith(".") and folder.strip(".") for folder in folders):
        return Reason.HIDDEN_FOLDER
    return _reason(name, _by_name(name) or _kind_of(first_bytes()))


def is_archive(name: str) -> bool:
    """Whether something of this name may hold images."""
    return name.lower().endswith(ARCHIVES)


def archive_of(path: str, root: str | os.PathLike[str] = "") -> str | None:
    """Return the archive or table on this machine that a path leads into, or ``None``.

    Args:
        path: as a record has it, such as ``photos.tar/a/b.jpg``.
        root: the folder that it begins at, if it is relative.
    """
    starts = (path[: found.end()] for found in _ARCHIVE_ENDS.finditer(path))
    # A folder may bear such a name, too.
    return next((name for name in starts if os.path.isfile(os.path.join(root, name))), None)


def _by_name(name: str) -> Kind | None:
    """Return what a file is by its name, or ``None`` where its content has to be looked at."""
    if name.startswith(_APPLE_DOUBLE):
        return Kind.OTHER
    return _BY_SUFFIX.get(os.path.splitext(name)[1].lower())


def _reason(name: str, kind: Kind) -> Reason | None:
    if name.startswith("."):
        return _BECAUSE.get(kind, Reason.HIDDEN)
    if is_archive(name) and kind is Kind.OTHER:
        return Reason.ARCHIVE
    return _BECAUSE.get(kind)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError as error:
        return error.errno != errno.ELOOP  # if access is denied, its record says so


def _by_content(path: str) -> Kind:
    try:
        with open(path, "rb", buffering=0, opener=without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # it was one a moment ago
                return Kind.OTHER
            found = file_format(file.read(SIGNATURE_BYTES))
    except OSError:
        return Kind.READ
    return _kind(found)


def _kind_of(first_bytes: bytes) -> Kind:
    return _kind(file_format(first_bytes))


def _kind(found: FileFormat | None) -> Kind:
    return found.kind if found else Kind.OTHER
