"""The four plots of ``glass-bench run``.

Colours are Okabe and Ito's, which colour-blind readers tell apart, with grey for their yellow,
which fades on white; markers and hatches differ as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...calibration.figures import new_figure, png
from .report import ContenderResult, RunReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#7F7F7F", "#000000")
_MARKERS = "osD^vP*X<>"
_BUSY = ("read", "decode", "views", "infer", "aggregate")
_HATCHES = ("", "//", "\\\\", "..", "xx")
_KINDS = {"pytorch": _COLOURS[0], "naive": _COLOURS[3], "ours": _COLOURS[2]}
_LEGENDS = {"pytorch": "PyTorch", "naive": "naive deployment", "ours": "glass-edge"}
_LEAST_CHANGE = 1e-7  # where exact agreement is drawn on a logarithmic axis


def plot_run(report: RunReport) -> bytes:
    """Draw throughput, latency, stages and agreement; return a PNG file."""
    rows = len(report.contenders)
    figure = new_figure(16, 7.2 + 0.5 * rows)
    axes = figure.subplots(2, 2)
    _throughput(axes[0, 0], report)
    _latency(axes[0, 1], report)
    _stages(axes[1, 0], report)
    _agreement(axes[1, 1], report)
    figure.suptitle(
        f"{report.backbone}, {report.views.num_crops} crops, {len(report.images)} images, "
        f"{report.environment.processor}, {report.threads} threads"
    )
    return png(figure)


def _speed(report: RunReport, contender: ContenderResult) -> float:
    return len(report.images) / contender.end_to_end.passages.median


def _names(ax: Axes, report: RunReport) -> range:
    """Put the contenders' names on the vertical axis, the first at the top."""
    places = range(len(report.contenders))
    ax.set_yticks(places, [_short_name(each.name) for each in report.contenders])
    ax.invert_yaxis()
    return places


def _throughput(ax: Axes, report: RunReport) -> None:
    for place, contender in zip(_names(ax, report), report.contenders, strict=True):
        speed = _speed(report, contender)
        ax.barh(place, speed, color=_KINDS[contender.kind])
        ax.annotate(
            f"{speed:.3g}", (speed, place), xytext=(4, 0), textcoords="offset points", va="center"
        )
    if full := report.full_size:
        speed = len(full.images) / full.seconds
        ax.axvline(speed, color="black", linestyle=":", label=f"every tile: {speed:.2g} images/s")
    for kind in dict.fromkeys(each.kind for each in report.contenders):
        ax.bar(0, 0, color=_KINDS[kind], label=_LEGENDS[kind])
    ax.margins(x=0.12)
    ax.set_xlim(left=0)
    ax.set_xlabel("images per second, from files to P(fake)")
    ax.set_title("End to end: throughput")
    _legend_below(ax)


def _legend_below(ax: Axes) -> None:
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=6, fontsize=9, frameon=False)


def _latency(ax: Axes, report: RunReport) -> None:
    for index, contender in enumerate(report.contenders):
        batches = contender.engine_only
        ax.plot(
            [batch.images for batch in batches],
            [batch.per_round.median * 1e3 for batch in batches],
            label=_short_name(contender.name),
            markersize=6,
            **_style(index),
        )
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(report.batches, [str(images) for images in report.batches])
    ax.set_xlabel("images in a batch")
    ax.set_ylabel("milliseconds per batch")
    ax.set_title("Engine only: latency against batch")
    ax.grid(alpha=0.3, which="both")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)


def _stages(ax: Axes, report: RunReport) -> None:
    """Stack the stages that are work; waiting is not."""
    count = len(report.images)
    places = _names(ax, report)
    lefts = [0.0] * len(places)
    for index, stage in enumerate(_BUSY):
        widths = [
            contender.end_to_end.stages[stage].median / count * 1e3
            if stage in contender.end_to_end.stages
            else 0.0
            for contender in report.contenders
        ]
        ax.barh(
            places,
            widths,
            left=lefts,
            label=stage,
            color=_COLOURS[index],
            hatch=_HATCHES[index],
            edgecolor="white",
        )
        lefts = [left + width for left, width in zip(lefts, widths, strict=True)]
    elapsed = [each.end_to_end.passages.median / count * 1e3 for each in report.contenders]
    ax.plot(elapsed, places, "D", color="black", markersize=5, label="elapsed")
    ax.set_xlabel("milliseconds per image; stages are summed over threads")
    ax.set_title("End to end: where the time goes")
    _legend_below(ax)


def _agreement(ax: Axes, report: RunReport) -> None:
    for index, contender in enumerate(report.contenders):
        change = report.agreement(contender)
        ax.plot(
            _speed(report, contender),
            max(change.mean_change, _LEAST_CHANGE),
            linestyle="",
            markersize=9,
            label=f"{_short_name(contender.name)} ({change.flips} flips)",
            **_style(index),
        )
    ax.set_yscale("log")
    ax.set_xlabel("images per second, from files to P(fake)")
    ax.set_ylabel("mean change of P(fake) against PyTorch FP32")
    ax.set_title("Agreement against speed (better: right and down)")
    ax.grid(alpha=0.3)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)


def _style(index: int) -> dict[str, Any]:
    """Return the colour and the marker of the n-th contender."""
    return {"color": _COLOURS[index % len(_COLOURS)], "marker": _MARKERS[index % len(_MARKERS)]}


def _short_name(name: str) -> str:
    """Return a contender's name without its bundle's digest and suffix."""
    bundle, at, rest = name.partition("@")
    return f"{bundle.removesuffix('.glass')}, {rest.partition(', ')[2]}" if at else name
