"""Makes bundles in lower precisions to measure what each of them buys; none is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.comparison import Comparison, Yardstick
from ...runtime.bundle.manifest import MANIFEST_NAME
from ...runtime.engines.registry import check_cpu_computes
from ...runtime.machine.environment import environment
from ...runtime.machine.errors import EngineError
from ...runtime.machine.progress import Progress, silent
from ..errors import AccuracyError, CalibrationError
from ..floats.mixed import LowType
from ..floats.search import FloatSearch
from ..images import ImageSets
from ..int8.search import Int8Search
from ..judging.comparison import Candidate, Contender, Overflow, compare_contenders
from ..judging.timed import Speed, measure_speeds
from ..options import CalibrationOptions, LowPrecision, check_judgements
from .explored import SCHEMA_VERSION, Choice, Exploration, label_of
from .source import check_fp32
from .variants import (
    Made,
    in_float,
    scratch_folder,
    stand_in_for,
    with_rest_in_fp16,
    write_variant,
)

_UNSTEADY = 0.1  # of a speed: quartiles that lie further apart are worth a note


def explore(
    bundle: Bundle,
    images: ImageSets,
    options: CalibrationOptions,
    judgements: int,
    *,
    command: str,
    progress: Progress = silent,
) -> Exploration:
    """Measure error and speed in FP16, in BF16, and in INT8 with ever more layers kept.

    All are made from the same images, judge the same views, and are timed in turns. The files of
    one at a time lie in the folder for temporary files; the engines of all are in memory.

    Args:
        bundle: in FP32.
        images: the user's; those held out are judged.
        options: how INT8 is made; the budget bounds how many layers are kept.
        judgements: the least number of judgements by each.
        command: what the report says it was made by.
        progress: is told how far the work has come.

    Raises:
        AccuracyError: values overflow in every precision that is tried.
        CalibrationError: the images are unreadable or show too little.
        EngineError: no engine of this machine runs FP32 or INT8.
        InputError: the bundle is not in FP32, or ``judgements`` is below 1.
        OutputError: temporary files cannot be written.
    """
    check_fp32(bundle)
    check_judgements(judgements)
    search = Int8Search(bundle, images, options, progress)
    maker = _Maker(bundle, search, options, progress)
    candidates = [*maker.in_floats(), *maker.in_int8()]
    with progress("opening FP32"):
        reference = Contender(Candidate(bundle))
    contenders = [each.contender for each in candidates]
    found = compare_contenders(reference, contenders, images.held_out, judgements, progress)
    compared, overflows = _sorted_out(candidates, found)
    engines = [each.candidate.contender.engine for each in compared]
    _, *speeds = measure_speeds(bundle, [reference.engine, *engines], progress)
    first = compared[0]
    return Exploration(
        schema=SCHEMA_VERSION,
        command=command,
        environment=environment(),
        bundle=bundle.name,
        bundle_digest=bundle.digest,
        size=_size(bundle),
        images=len(images.calibration),
        data=images.digest,
        compared_images=first.comparison.images,
        judgements=first.comparison.judgements,
        noise=first.yardstick.noise,
        unit=first.yardstick.unit,
        draw_flips=first.yardstick.flips,
        layers=sum(map(len, search.layers.values())),
        notes=(*search.notes, *maker.notes, *overflows, *_notes(compared, speeds)),
        choices=tuple(map(_choice, compared, speeds)),
    )


def kept_counts(most: int, default: int) -> list[int]:
    """Return how many layers to keep in floating point: none, powers of two, and the default's."""
    powers = (1 << exponent for exponent in range(most.bit_length()))
    return sorted({0, default, *powers})


@dataclass(frozen=True)
class _Candidate:
    """One that an engine of this machine runs."""

    precision: LowPrecision
    contender: Contender
    size: int
    kept: int | None
    default: bool


class _Maker:
    """Makes candidates and opens their engines.

    Attributes:
        notes: why some are left out.
    """

    def __init__(
        self, bundle: Bundle, search: Int8Search, options: CalibrationOptions, progress: Progress
    ) -> None:
        self.notes: list[str] = []
        self._bundle, self._search, self._options = bundle, search, options
        self._progress = progress
        self._floats = FloatSearch(bundle, search.trial, progress)

    def in_floats(self) -> Iterator[_Candidate]:
        """Make FP16 and BF16; what no engine here runs is left out."""
        for precision in get_args(LowType):
            try:
                check_cpu_computes(precision)
                opened = self._opened(in_float(self._floats.lower(precision)), precision)
            except EngineError as error:
                self.notes.append(f"{precision.upper()} is left out: {error}")
            else:
                yield opened

    def in_int8(self) -> Iterator[_Candidate]:
        """Make INT8 with ever more layers kept."""
        default = len(self._search.kept())
        most = int(self._options.budget * sum(map(len, self._search.layers.values())))
        for count in kept_counts(most, default):
            kept = self._search.ranked[:count] if count else []
            made = Made(self._search.graphs(kept), {}, rest="fp32")
            if self._options.rest == "fp16":
                made = with_rest_in_fp16(made, self._floats)
            yield self._opened(made, "int8", count, default=count == default)

    def _opened(
        self, made: Made, precision: LowPrecision, kept: int | None = None, *, default: bool = False
    ) -> _Candidate:
        """Write a candidate, open its engines, and remove it."""
        with self._progress(f"opening {label_of(precision, kept)}"), scratch_folder() as folder:
            variant = write_variant(self._bundle, folder, made, precision)
            with stand_in_for(variant) as stand_in:
                contender = Contender(Candidate(variant, stand_in))
            return _Candidate(precision, contender, _size(variant), kept, default)


def _size(bundle: Bundle) -> int:
    """Return the bytes of a bundle's files."""
    names = (MANIFEST_NAME, *(name for name, _ in bundle.manifest.files))
    return sum((bundle.path / name).stat().st_size for name in names)


@dataclass(frozen=True)
class _Compared:
    """A candidate beside FP32."""

    candidate: _Candidate
    comparison: Comparison
    yardstick: Yardstick


def _sorted_out(
    candidates: Sequence[_Candidate], found: Sequence[Comparison | Overflow]
) -> tuple[list[_Compared], list[str]]:
    """Return what could be compared, and why the others are left out.

    Raises:
        AccuracyError: the values of all overflow.
        CalibrationError: there is no noise to compare with.
    """
    compared, notes = [], []
    for candidate, each in zip(candidates, found, strict=True):
        if isinstance(each, Overflow):
            notes.append(f"{label_of(candidate.precision, candidate.kept)} is left out: {each}.")
        elif each.yardstick is None:
            raise CalibrationError(
                "errors cannot be measured: the images to compare on, and all draws of their "
                "crops, give the same verdict. Give more images, and larger ones."
            )
        else:
            compared.append(_Compared(candidate, each, each.yardstick))
    if not compared:
        raise AccuracyError(f"nothing can be compared with FP32: {found[0]}.")
    return compared, notes


def _choice(found: _Compared, speed: Speed) -> Choice:
    candidate, comparison, yardstick = found.candidate, found.comparison, found.yardstick
    return Choice(
        precision=candidate.precision,
        kept=candidate.kept,
        default=candidate.default,
        error=yardstick.error,
        shift=yardstick.shift,
        flips=comparison.flips,
        mean_change=comparison.mean_change,
        largest_change=comparison.largest_change,
        speed=speed,
        size=candidate.size,
        engine=candidate.contender.engine.description,
        computed=candidate.contender.engine.precision,
        simulated=candidate.contender.simulated,
    )


def _notes(compared: Sequence[_Compared], speeds: Sequence[Speed]) -> Iterator[str]:
    """Yield what the user should know of the errors and speeds."""
    contenders = [each.candidate.contender for each in compared]
    simulated = {each.manifest.types: each.engine for each in contenders if each.simulated}
    for types, engine in simulated.items():
        yield (
            f"{engine.description} does not compute {types} as written on this machine: errors are "
            "a simulation's, and the speed says nothing of a GPU."
        )
    if any(each.high - each.low > _UNSTEADY * each.times for each in speeds):
        yield (
            "speeds are rough, because they varied from one round to the next: something else ran "
            "on this machine."
        )
