"""Plans on disk: built once, found again, and refused if they are not what their sidecar says.

A plan is code that runs with the process's rights. The folder is private to its user. The hash in
the sidecar shows that a plan is whole, not who wrote it: whoever may write to the folder can
replace both.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import msgspec
from filelock import FileLock

from ...bundle.bundle import Bundle, sha256_of
from ...bundle.streams import Role
from ...machine.cache import go_on_without, recent_folder
from ...machine.errors import EngineError, OutputError
from ...machine.progress import Progress, silent
from .build import build_plan
from .plan import Check, PlanKey, PlanRecord, check_form, differences, newest_first, runs_as

PLAN_SUFFIX = ".plan"
_BUILDING = ".building-"
_PARTIAL = ".partial"
_FOLDER_NAME = 16  # characters of the graphs' digest
_BUNDLES_KEPT = 16  # in the user's cache; more than OpenVINO's, since building takes minutes
_LOCK_TIMEOUT = 5  # seconds that a check waits for a build that goes on


@dataclass(frozen=True)
class StoredPlan:
    """A plan on disk and its sidecar."""

    path: Path
    record: PlanRecord

    def load(self) -> bytes:
        """Return the plan's bytes, which are those that were built.

        Raises:
            EngineError: they were changed, or cannot be read.
        """
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise EngineError(
                f"{self.path} cannot be read ({error.strerror}): run again, and what is missing "
                "will be built."
            ) from None
        if hashlib.sha256(content).hexdigest() != self.record.sha256:
            raise EngineError(
                f"{self.path} is not what was built (its hash differs): run again, and it will be "
                "built again."
            )
        return content


class PlanStore:
    """The plans of one bundle's graphs, for any machine."""

    def __init__(self, bundle: Bundle, folder: Path | None = None) -> None:
        """Use a folder below ``folder``, or below the user's cache, where few stay.

        Raises:
            EngineError: TensorRT cannot compute the bundle.
            OutputError: the folder cannot be made.
        """
        check_form(bundle)
        self._bundle = bundle
        name = bundle.graphs_digest[:_FOLDER_NAME]
        if folder is None:
            self.folder = recent_folder("engines", name, _BUNDLES_KEPT)
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
        """Return the newest undamaged plan for this machine that serves these batches."""
        asked = key.options.batches
        fitting = [
            record
            for record in self._records(key.role)
            if runs_as(record.key, key)
            and record.key.options.batches.least <= asked.most <= record.key.options.batches.most
        ]
        plans = (StoredPlan(self._path(record.key), record) for record in newest_first(fitting))
        return next(filter(_intact, plans), None)

    def build(
        self, key: PlanKey, progress: Progress = silent, *, again: bool = False
    ) -> tuple[StoredPlan, str | None]:
        """Return the plan of this key, built now if it is not there, and why it was built.

        Of several processes one builds and the others wait for it.

        Raises:
            BundleError: the bundle's files changed since it was opened.
            EngineError: it cannot be built.
            OutputError: the plan cannot be written.
        """
        try:
            with FileLock(self._lock(key.role)):
                found = self.find(key)
                if found and not again and _intact(found):
                    return found, None
                why = self.why(key)
                self._remove_leftovers(key.role)
                stored = self._build(key, progress)
                self._remove_replaced(key)
                return stored, why
        except OSError as error:
            raise OutputError(
                f"the plan cannot be written to {self.folder}: {error.strerror or error}."
            ) from None

    def add_check(self, stored: StoredPlan, check: Check) -> None:
        """Note in the sidecar that a plan was compared with ONNX Runtime.

        Where that cannot be noted, or is of a plan that was replaced meanwhile, the next run
        compares again.
        """
        sidecar = self._sidecar(stored.record.key)
        with suppress(OSError), FileLock(self._lock(stored.record.key.role), timeout=_LOCK_TIMEOUT):
            now = _read(sidecar)
            if now is not None and now.sha256 == stored.record.sha256:
                _write(sidecar, msgspec.structs.replace(now, check=check))

    def _build(self, key: PlanKey, progress: Progress) -> StoredPlan:
        place = Path(tempfile.mkdtemp(prefix=f"{_BUILDING}{key.role}-", dir=self.folder))
        try:
            plan = place / "plan"
            graph = self._bundle.graph_path(key.role)
            built = build_plan(graph, key, plan, self._timings(key), progress)
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
        """Delete what builds that were killed left; nobody else writes while the lock is held."""
        for place in self.folder.glob(f"{_BUILDING}{role}-*"):
            shutil.rmtree(place, ignore_errors=True)
        for path in self.folder.glob(f"{role}-*"):
            alone = path.suffix == PLAN_SUFFIX and not path.with_suffix(".json").exists()
            if alone or path.suffix == _PARTIAL:
                path.unlink(missing_ok=True)

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

    def _lock(self, role: Role) -> Path:
        return self.folder / f"{role}.lock"

    def _path(self, key: PlanKey) -> Path:
        return self.folder / f"{key.role}-{key.digest}{PLAN_SUFFIX}"

    def _sidecar(self, key: PlanKey) -> Path:
        return self._path(key).with_suffix(".json")


@contextmanager
def store_to_run(bundle: Bundle, folder: Path | None) -> Iterator[PlanStore]:
    """Yield a store to load plans from; without a cache, a temporary one.

    Raises:
        EngineError: TensorRT cannot compute the bundle.
        OutputError: ``folder`` cannot be made.
    """
    try:
        store = PlanStore(bundle, folder)
    except OutputError as missing:
        if folder is not None:
            raise
        go_on_without(missing)
    else:
        yield store
        return
    with tempfile.TemporaryDirectory(prefix="glass-engines-") as place:
        yield PlanStore(bundle, Path(place))


def _intact(stored: StoredPlan) -> bool:
    try:
        return sha256_of(stored.path) == stored.record.sha256
    except OSError:
        return False


def _likeness(one: PlanKey, other: PlanKey) -> int:
    return sum(getattr(one, name) == getattr(other, name) for name in one.__struct_fields__)


def _read(path: Path) -> PlanRecord | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=PlanRecord)
    except (OSError, msgspec.MsgspecError):
        return None


def _write(path: Path, record: PlanRecord) -> None:
    content = msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
    partial = path.with_suffix(f".{os.getpid()}{_PARTIAL}")
    partial.write_bytes(content)
    partial.replace(path)
