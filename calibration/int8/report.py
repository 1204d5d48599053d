"""The report of ``glass-quantize --layers``: one object that makes JSON, Markdown and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.comparison import NoiseUnit
from ...runtime.bundle.streams import Role
from ...runtime.machine.environment import Environment, environment
from ...runtime.machine.progress import Progress, silent
from ...runtime.results.tables import markdown_table
from ..figures import new_figure, png
from ..images import ImageSets
from ..judging.gate import NOISES
from ..options import CalibrationOptions
from .search import Int8Search

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCHEMA_VERSION = 3
_BARS = 30  # layers in the plot
_WIDTH, _BAR_HEIGHT, _FRAME_HEIGHT = 8.0, 0.22, 1.4  # inches
_COLOURS: dict[Role, str] = {"global": "#08519c", "local": "#e6842a"}


class LayerSensitivity(msgspec.Struct, frozen=True):
    """How far the margin moves if this layer alone is INT8.

    ``error`` is the root mean square change, as a share of the draw noise; ``work`` what the layer
    costs in floating point, in multiply-adds for one view.
    """

    graph: Role
    node: str
    kind: str
    label: str
    error: float
    work: float


class SensitivityReport(msgspec.Struct, frozen=True):
    """What INT8 costs in each layer of a bundle, those first whose keeping is worth most.

    ``images`` is the number of images to calibrate on, and ``data`` the SHA-256 over their hashes;
    errors are shares of ``noise``, of which ``unit`` says what it is.
    """

    schema: int
    command: str
    environment: Environment
    bundle: str
    bundle_digest: str
    images: int
    data: str
    noise: float
    unit: NoiseUnit
    notes: tuple[str, ...]
    layers: tuple[LayerSensitivity, ...]

    def to_json(self) -> bytes:
        """Return the whole report."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    def to_markdown(self) -> str:
        """Return each layer's error, how it was measured, and notes about the images."""
        parts = [
            "# What INT8 costs, layer by layer",
            f"`{self.command}`",
            self.environment.to_markdown(),
            f"{self.summary()}; SHA-256 of the bundle {self.bundle_digest}, of the images "
            f"{self.data}.",
            self.table(len(self.layers)),
            f"Error: {self._error_is()} if this layer alone is INT8. Work: what it costs in "
            "floating point, in millions of multiply-adds for one view; each value that is read or "
            "written counts as 16. Those with the largest squared errors for their work are first.",
        ]
        if self.notes:
            parts += ["## Notes", "\n".join(f"- {note}" for note in self.notes)]
        return "\n\n".join(parts) + "\n"

    def to_png(self) -> bytes:
        """Return a PNG plot of the layers with the largest errors; needs matplotlib."""
        worst = sorted(self.layers, key=lambda layer: -layer.error)
        title = f"{self.bundle}: {self._plotted()}"
        return _plot(worst[:_BARS], title, f"{self._error_is()}, this layer alone in INT8")

    def summary(self) -> str:
        """Return one line: which bundle, on how many images, and what errors are shares of."""
        return (
            f"{self.bundle} calibrated on {self.images} images; errors are shares of "
            f"{NOISES[self.unit]}, {self.noise:.3g} in the margin"
        )

    def _error_is(self) -> str:
        return f"root mean square change of the margin, as a share of {NOISES[self.unit]}"

    def table(self, count: int) -> str:
        """Return a Markdown table of the first ``count`` layers."""
        header = ("layer", "graph", "kind", "node", "work", "error")
        rows = (
            (
                *(each.label, each.graph, each.kind, each.node),
                *(f"{each.work / 1e6:.1f}", f"{each.error:.4f}"),
            )
            for each in self.layers[:count]
        )
        return markdown_table(header, rows)

    def _plotted(self) -> str:
        total = len(self.layers)
        return f"all {total} layers" if total <= _BARS else f"the worst {_BARS} of {total} layers"


def measure_sensitivity(
    bundle: Bundle,
    sets: ImageSets,
    options: CalibrationOptions,
    *,
    command: str,
    progress: Progress = silent,
) -> SensitivityReport:
    """Quantise each layer of an FP32 bundle alone; return what that does to the margin.

    Raises:
        CalibrationError: the images tell nothing about ranges, or a backbone has nothing to
            quantise.
    """
    search = Int8Search(bundle, sets, options, progress)
    return SensitivityReport(
        schema=SCHEMA_VERSION,
        command=command,
        environment=environment(),
        bundle=bundle.name,
        bundle_digest=bundle.digest,
        images=len(sets.calibration),
        data=sets.digest,
        noise=search.trial.noise.size,
        unit=search.trial.noise.unit,
        notes=search.notes,
        layers=tuple(
            LayerSensitivity(
                graph=error.role,
                node=error.layer.node,
                kind=error.layer.kind,
                label=error.layer.label,
                error=error.error,
                work=error.layer.work,
            )
            for error in search.ranked
        ),
    )


def _plot(layers: Sequence[LayerSensitivity], title: str, error: str) -> bytes:
    figure = new_figure(_WIDTH, _FRAME_HEIGHT + _BAR_HEIGHT * len(layers))
    ax = figure.subplots()
    _draw(ax, layers)
    ax.set_title(title, fontsize=9)
    ax.set_xlabel(error, fontsize=8)
    figure.legend(loc="outside lower center", ncols=len(_COLOURS), fontsize=8, frameon=False)
    return png(figure)


def _draw(ax: Axes, layers: Sequence[LayerSensitivity]) -> None:
    for role, colour in _COLOURS.items():
        bars = [(at, each.error) for at, each in enumerate(layers) if each.graph == role]
        if bars:
            places, errors = zip(*bars, strict=True)
            ax.barh(places, errors, color=colour, label=f"{role} graph")
    names = [f"{each.label} ({each.kind})" for each in layers]
    ax.set_yticks(range(len(layers)), names, fontsize=7)
    ax.set_ylim(len(layers) - 0.5, -0.5)  # the worst on top
    ax.tick_params(axis="x", labelsize=8)
