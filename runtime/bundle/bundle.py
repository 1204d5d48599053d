"""A bundle on disk: opened, checked byte for byte, and never written to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from ..finding.files import did_you_mean, readable_path
from ..machine.errors import BundleError
from .graphfile import check_graph
from .manifest import MANIFEST_NAME, Manifest, parse_manifest
from .streams import Role

BUNDLE_SUFFIX = ".glass"
_LARGEST_MANIFEST = 1 << 20  # bytes
_LARGEST_GRAPH = (1 << 31) - 1  # bytes that protobuf allows in one message
_LARGEST_FILE = 1 << 34  # bytes of weights

_Stamp: TypeAlias = tuple[int, ...] | None
"""Changes when a file is written to or replaced."""


@dataclass(frozen=True)
class Bundle:
    """A checked bundle: its folder, its manifest, and a digest that names its content."""

    path: Path
    manifest: Manifest
    digest: str
    _stamps: Mapping[str, _Stamp] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str], digest: str | None = None) -> Bundle:
        """Open a bundle and check every file in it against the manifest.

        Args:
            path: its folder.
            digest: the SHA-256 that its manifest must have, in hexadecimal. As the manifest holds
                the other files' hashes, this names the whole bundle.

        Raises:
            BundleError: something is missing, damaged, of an unknown version or not allowed, or
                it is another bundle than ``digest`` says.
        """
        folder = Path(path)
        try:
            content = _read_manifest(folder)
            found = hashlib.sha256(content).hexdigest()
            _check_digest(found, digest)
            manifest = parse_manifest(content)
            stamps = {name: _stamp(folder / name) for name, _ in manifest.files}
            _check_files(folder, manifest)
        except BundleError as error:
            raise BundleError(f"bundle {folder}: {error}") from None
        except OSError as error:
            raise BundleError(f"bundle {folder} cannot be read: {error.strerror}.") from None
        return cls(folder, manifest, found, stamps)

    def check_unchanged(self) -> None:
        """Check every file again that was touched since the bundle was opened.

        Engines open files by name. Called after an engine has loaded, this shows that what it
        loaded is this bundle.

        Raises:
            BundleError: a file is not what it was.
        """
        for name, sha256 in self.manifest.files:
            path = self.path / name
            stamp = _stamp(path)
            if stamp is None or stamp != self._stamps.get(name):
                try:
                    _check_file(path, sha256)
                except (BundleError, OSError) as error:
                    raise BundleError(
                        f"bundle {self.path} was changed since it was opened: {error}"
                    ) from None

    @property
    def name(self) -> str:
        """What records call the bundle: its folder's name and the start of its digest."""
        return f"{readable_path(self.path.resolve().name)}@{self.digest[:12]}"

    @property
    def graphs_digest(self) -> str:
        """A digest of what engines read: the same for bundles that differ in notes only."""
        files = [self.manifest.graph(role).sha256 for role in self.manifest.roles]
        files += [entry.sha256 for entry in self.manifest.weights]
        return hashlib.sha256("".join(files).encode()).hexdigest()

    def graph_path(self, role: Role) -> Path:
        """Return the path of a graph's ONNX file."""
        return self.path / self.manifest.graph(role).file


def _read_manifest(folder: Path) -> bytes:
    path = folder / MANIFEST_NAME
    if not folder.exists():
        hint = did_you_mean(folder, BUNDLE_SUFFIX)
        raise BundleError(f"no such folder; make one with glass-export.{hint}")
    if not path.is_file():
        raise BundleError(
            f"it holds no {MANIFEST_NAME}, so it is not a bundle made by glass-export."
        )
    _check_inside(path)
    if path.stat().st_size > _LARGEST_MANIFEST:
        raise BundleError(f"{MANIFEST_NAME} is larger than {_LARGEST_MANIFEST} bytes.")
    return path.read_bytes()


def _check_digest(found: str, asked: str | None) -> None:
    if asked is not None and found != asked.lower():
        raise BundleError(
            f"it is another one than was asked for: the SHA-256 of its {MANIFEST_NAME} is {found}."
        )


def _check_files(folder: Path, manifest: Manifest) -> None:
    """Check hashes first: a damaged file is not worth parsing."""
    for name, sha256 in manifest.files:
        _check_file(folder / name, sha256)
    weights = {entry.file for entry in manifest.weights}
    for role in manifest.roles:
        check_graph(folder / manifest.graph(role).file, weights)


def _check_inside(path: Path) -> None:
    if not path.resolve().is_relative_to(path.parent.resolve()):
        raise BundleError(
            f"{path.name} is a link that leaves the folder; copy the bundle with what its links "
            "point to."
        )


def _check_file(path: Path, sha256: str) -> None:
    if not path.is_file():
        raise BundleError(f"{path.name} is missing; copy the whole folder again.")
    _check_inside(path)
    largest = _LARGEST_GRAPH if path.suffix == ".onnx" else _LARGEST_FILE
    if path.stat().st_size > largest:
        raise BundleError(f"{path.name} is larger than {largest} bytes.")
    found = sha256_of(path)
    if found != sha256:
        raise BundleError(
            f"{path.name} is damaged or was changed (SHA-256 {found[:12]}…, "
            f"expected {sha256[:12]}…); copy or export it again."
        )


def _stamp(path: Path) -> _Stamp:
    """Return ``None`` for a file that cannot be inspected; checking its hash then says why."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
