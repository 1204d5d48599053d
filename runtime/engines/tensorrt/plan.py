"""What describes a built graph: how it was asked for, for what machine, and what came out.

TensorRT calls the bytes of a built engine a plan; so do we, because an engine here is what
runs graphs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Annotated, Final, Literal

import msgspec

from ...bundle.bundle import Bundle
from ...bundle.manifest import Precision
from ...bundle.streams import Role
from ...machine.errors import EngineError, InputError
from .api import Library

PLAN_FORMAT: Final = 1
GIB = 1 << 30
_FEWEST_CROPS_ALLOWED = 64  # crops per image that the aggregator takes, or the bundle's if more
_LEAST_MOST = 16
_USUAL = 16  # views in a batch, where an image has one or as many as it asks for
_LEVELS = range(6)
_AMPERE = 80  # compute capability 8.0

Natural = Annotated[int, msgspec.Meta(ge=0)]


class Batches(msgspec.Struct, frozen=True):
    """Batch sizes a plan serves: the least, the one it is tuned for, the most."""

    least: int
    best: int
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.best <= self.most:
            raise InputError(
                "batch sizes must rise from --min-batch over --opt-batch to --max-batch and begin "
                f"at 1 or above, not {self.least}, {self.best}, {self.most}."
            )

    def __str__(self) -> str:
        return f"{self.least}..{self.most}, best {self.best}"


def default_batches(bundle: Bundle) -> Batches:
    """One image's crops at best, rounded up to a power of two; as a run batches other views."""
    views = bundle.manifest.views
    best = _USUAL if views.varies else 1 << (max(1, views.num_crops) - 1).bit_length()
    if views.several is None:
        best = _USUAL
    return Batches(1, best, usual_most(best))


def usual_most(best: int) -> int:
    """Return the largest batch for the one that a plan is tuned for."""
    return max(_LEAST_MOST, 4 * best)


class BuildOptions(msgspec.Struct, frozen=True):
    """How plans shall be built.

    Attributes:
        batches: sizes served, in views for the backbones and images for the aggregator.
        workspace: bytes of GPU memory that a layer may use for scratch; 0 where nobody asked,
            so that what is free by chance makes no other plan.
        level: 0 builds fast, 5 searches longest; ``None`` is TensorRT's default.
        version_compatible: the plan also runs on later versions of the same major number.
        hardware_compatible: the plan also runs on other GPUs (Ampere and later).
    """

    batches: Batches
    workspace: Natural = 0
    level: int | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False

    def __post_init__(self) -> None:
        if self.level is not None and self.level not in _LEVELS:
            raise InputError(f"the builder level lies between 0 and 5, not {self.level}.")


class PlanKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that decides what a plan is and where it runs."""

    format: Literal[1]
    graph: str  # SHA-256 of the graph and its weights
    role: Role
    precision: Precision
    crops: int  # the most per image that the aggregator takes
    library: str
    version: str
    gpu: str  # name and compute capability, "any" for portable plans
    options: BuildOptions

    @property
    def digest(self) -> str:
        """A short name for this key."""
        return _short(msgspec.json.encode(self))

    @property
    def machine(self) -> str:
        """A short name for the library and GPU alone."""
        return _short("\n".join([self.library, self.version, self.gpu]).encode())


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def check_form(bundle: Bundle) -> None:
    """Refuse INT8 in the form for CPUs, whose activations may be unsigned.

    TensorRT's parser refuses them, and TensorRT-RTX's reads them as signed, which clips the upper
    half of their range and is no error.

    Raises:
        EngineError: the bundle is in that form.
    """
    if bundle.manifest.rest == "fp32":
        raise EngineError(
            f"{bundle.name} is INT8 for CPUs, with unsigned values that TensorRT cannot compute: "
            "glass-quantize --precision int8 --int8-rest fp16 makes one that it computes."
        )


def plan_key(
    bundle: Bundle, role: Role, library: Library, gpu: str, options: BuildOptions
) -> PlanKey:
    """Return the key of a bundle's graph built on this machine."""
    manifest = bundle.manifest
    by_rule = 0 if manifest.stopping is None else manifest.stopping.most_crops
    hashes = [manifest.graph(role).sha256, *(entry.sha256 for entry in manifest.weights)]
    return PlanKey(
        format=PLAN_FORMAT,
        graph=hashlib.sha256(":".join(hashes).encode()).hexdigest(),
        role=role,
        precision=manifest.precision,
        crops=max(_FEWEST_CROPS_ALLOWED, manifest.views.most, by_rule),
        library=library.name,
        version=library.version,
        gpu=gpu,
        options=options,
    )


class Tensor(msgspec.Struct, frozen=True):
    """An input or output of a plan; ``shapes`` are the least, best and most of an input."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...] = ()


class Built(msgspec.Struct, frozen=True):
    """What the compiler says of a plan that it made.

    ``layers`` counts the parsed network's layers by the type of their first output: a strongly
    typed network computes in these.
    """

    seconds: float
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    layers: dict[str, int]
    warnings: tuple[str, ...]


class Check(msgspec.Struct, frozen=True):
    """How far a plan's outputs were from ONNX Runtime's.

    Attributes:
        batches: the batch sizes tried.
        error: largest difference, in units of the reference's largest magnitude.
        duplicates: largest difference between equal rows of one batch, in the same units.
        tolerance: what was allowed for ``error``.
        gpu: where it ran.
    """

    batches: tuple[int, ...]
    error: float
    duplicates: float
    tolerance: float
    gpu: str


class PlanRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The sidecar of a plan: JSON beside it. ``check`` is ``None`` until it ran on a GPU."""

    key: PlanKey
    bundle: str
    sha256: str
    size: int
    created: str
    built: Built
    check: Check | None = None


def differences(found: PlanKey, wanted: PlanKey) -> str:
    """Say in words why a plan is not the one wanted."""
    names = {
        "format": "another glass-edge",
        "version": f"{found.library} {found.version}, and this is {wanted.version}",
        "gpu": f"{found.gpu}, and this is {wanted.gpu}",
        "crops": f"{found.crops} crops per image at most",
        "precision": found.precision,
    }
    changed = [
        words for name, words in names.items() if getattr(found, name) != getattr(wanted, name)
    ]
    if not changed:
        return "there was none with these options"
    return f"the one there was built for {' and '.join(changed)}"


def runs_as(found: PlanKey, wanted: PlanKey) -> bool:
    """Whether a plan runs on the machine of another key, whatever options it was built with."""
    options = found.options
    if options.version_compatible and _earlier(found.version, wanted.version):
        found = msgspec.structs.replace(found, version=wanted.version)
    if options.hardware_compatible and _is_ampere_or_later(wanted.gpu):
        found = msgspec.structs.replace(found, gpu=wanted.gpu)
    return msgspec.structs.replace(found, options=wanted.options) == wanted


def _earlier(one: str, other: str) -> bool:
    """Whether a version is an earlier one of the same major number."""
    numbers = [[int(part) for part in re.findall(r"\d+", text)] for text in (one, other)]
    return numbers[0][:1] == numbers[1][:1] and numbers[0] <= numbers[1]


def _is_ampere_or_later(gpu: str) -> bool:
    found = re.search(r"sm_(\d+)", gpu)
    return found is not None and int(found[1]) >= _AMPERE


def newest_first(records: Iterable[PlanRecord]) -> list[PlanRecord]:
    """Order records by when their plans were built."""
    return sorted(records, key=lambda record: record.created, reverse=True)
