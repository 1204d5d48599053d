"""Plans on disk: found again, built once, and loaded only if this store wrote them.

A plan is code that runs with the process's rights. The folder is made for its user alone, and
the sidecar holds the plan's hash.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import msgspec
from filelock import FileLock

from ...bundle import Bundle, sha256_of
from ...cache import cache_folder
from ...errors import EngineError, OutputError
from ...manifest import Role
from .build import build_plan
from .compile import Progress
from .plan import Check, PlanKey, PlanRecord, best_of, differences, runs_as

PLAN_SUFFIX = ".plan"
_BUILDING = ".building-"
_FOLDER_NAME = 16  # characters of the graphs' digest


@dataclass(frozen=True)
class StoredPlan:
    """A plan on disk and its sidecar."""

    path: Path
    record: PlanRecord

    def load(self) -> bytes:
        """Return the plan's bytes, which are those that were built.

        Raises:
            EngineError: they were changed.
        """
        if sha256_of(self.path) != self.record.sha256:
            raise EngineError(
                f"{self.path} is not what was built (its hash differs): delete it, and it will be "
                "built again."
            )
        return self.path.read_bytes()


class PlanStore:
    """The plans of one bundle's graphs, for any machine."""

    def __init__(self, bundle: Bundle, folder: Path | None = None) -> None:
        """Use a folder below ``folder``, or below the user's cache.

        Raises:
            OutputError: the folder cannot be made.
        """
        self._bundle = bundle
        name = bundle.graphs_digest[:_FOLDER_NAME]
        if folder is None:
            self.folder = cache_folder("engines", name)
        else:
            self.folder = folder / name
            try:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(
                    f"the engine folder {self.folder} cannot be made: {error.strerror}."
                ) from None

    def find(self, key: PlanKey) -> StoredPlan | None:
        """Return the plan of exactly this key."""
        record = _read(self._sidecar(key))
        return StoredPlan(self._path(key), record) if record and record.key == key else None

    def find_fitting(self, key: PlanKey) -> StoredPlan | None:
        """Return the newest plan for this machine that serves these batches, however built."""
        asked = key.options.batches
        fitting = [
            record
            for record in self._records(key.role)
            if runs_as(record.key, key)
            and record.key.options.batches.least <= asked.most <= record.key.options.batches.most
        ]
        if not fitting:
            return None
        newest = best_of(fitting)
        return StoredPlan(self._path(newest.key), newest)

    def build(
        self, key: PlanKey, report: Callable[[Progress], None], *, again: bool = False
    ) -> tuple[StoredPlan, str | None]:
        """Return the plan of this key, built now if it is not there, and why it was built.

        Of several processes one builds and the others wait for it.

        Raises:
            BundleError: the bundle's files changed since it was opened.
            EngineError: it cannot be built.
            OutputError: the plan cannot be written.
        """
        with FileLock(self.folder / f"{key.role}.lock"):
            found = self.find(key)
            if found and not again and _intact(found):
                return found, None
            why = self.why(key)
            self._remove_leftovers(key.role)
            try:
                stored = self._build(key, report)
            except OSError as error:
                raise OutputError(
                    f"the plan cannot be written to {self.folder}: {error.strerror}."
                ) from None
            self._remove_replaced(key)
            return stored, why

    def add_check(self, stored: StoredPlan, check: Check) -> StoredPlan:
        """Note in the sidecar that a plan was compared with ONNX Runtime."""
        record = msgspec.structs.replace(stored.record, check=check)
        _write(self._sidecar(record.key), record)
        return StoredPlan(stored.path, record)

    def _build(self, key: PlanKey, report: Callable[[Progress], None]) -> StoredPlan:
        place = Path(tempfile.mkdtemp(prefix=f"{_BUILDING}{key.role}-", dir=self.folder))
        try:
            plan = place / "plan"
            graph = self._bundle.graph_path(key.role)
            built = build_plan(graph, key, plan, self._timings(key), report)
            self._bundle.check_unchanged()
            record = PlanRecord(
                key=key,
                bundle=self._bundle.name,
                sha256=sha256_of(plan),
                size=plan.stat().st_size,
                created=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
                built=built,
            )
            plan.replace(self._path(key))
            _write(self._sidecar(key), record)
            return StoredPlan(self._path(key), record)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def why(self, key: PlanKey) -> str:
        """Say why a plan of this key is to be built."""
        if found := self.find(key):
            return "it was asked for" if _intact(found) else "its file was damaged"
        others = self._records(key.role)
        if not others:
            return "there was none"
        likest = max(others, key=lambda record: _likeness(record.key, key))
        return differences(likest.key, key)

    def _records(self, role: Role) -> list[PlanRecord]:
        records = map(_read, sorted(self.folder.glob(f"{role}-*.json")))
        return [record for record in records if record is not None and record.key.role == role]

    def _remove_leftovers(self, role: Role) -> None:
        """Delete what builds that were killed left; nobody else builds while the lock is held."""
        for place in self.folder.glob(f"{_BUILDING}{role}-*"):
            shutil.rmtree(place, ignore_errors=True)

    def _remove_replaced(self, key: PlanKey) -> None:
        """Delete plans that differ only by the version that built them: none can load them."""
        for record in self._records(key.role):
            same = msgspec.structs.replace(record.key, version=key.version, format=key.format)
            if same == key and record.key != key:
                self._sidecar(record.key).unlink(missing_ok=True)
                self._path(record.key).unlink(missing_ok=True)

    def _timings(self, key: PlanKey) -> Path | None:
        """Return where times of kernels are kept for all bundles; TensorRT-RTX takes none."""
        if key.library == "tensorrt-rtx":
            return None
        return self.folder.parent / f"timings-{key.machine}.cache"

    def _path(self, key: PlanKey) -> Path:
        return self.folder / f"{key.role}-{key.digest}{PLAN_SUFFIX}"

    def _sidecar(self, key: PlanKey) -> Path:
        return self._path(key).with_suffix(".json")


def _intact(stored: StoredPlan) -> bool:
    return stored.path.is_file() and sha256_of(stored.path) == stored.record.sha256


def _likeness(one: PlanKey, other: PlanKey) -> int:
    return sum(getattr(one, name) == getattr(other, name) for name in one.__struct_fields__)


def _read(path: Path) -> PlanRecord | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=PlanRecord)
    except (OSError, msgspec.MsgspecError):
        return None


def _write(path: Path, record: PlanRecord) -> None:
    content = msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.replace(path)
