"""The plot of ``glass-bench int8``: error against speed."""

from __future__ import annotations

from ...calibration.figures import new_figure, png
from ...calibration.judging.yardstick import ERROR_GOOD, ERROR_REFUSED
from ...calibration.making.labels import Labels
from .choices import Group
from .report import Int8Report

_LOOKS: dict[Group, tuple[str, str]] = {
    "ours": ("#0072B2", "o"),
    "nncf": ("#E69F00", "s"),
    "onnxruntime": ("#009E73", "^"),
    "ablation": ("#7F7F7F", "x"),
}
_LEAST = 1e-3  # where an error of 0 is drawn


def plot_int8(report: Int8Report) -> bytes:
    """Draw each maker by its speed and error; return a PNG file."""
    figure = new_figure(9, 6)
    ax = figure.subplots()
    named: list[tuple[tuple[float, float], str, str]] = []
    for group, (colour, marker) in _LOOKS.items():
        members = {
            each.name: (each.speed.times, max(each.comparison.yardstick.error, _LEAST))
            for each in report.results
            if each.group == group and each.comparison.yardstick is not None
        }
        if members:
            speeds, errors = zip(*members.values(), strict=True)
            ax.scatter(speeds, errors, color=colour, marker=marker, label=group)
        named += [(place, name, colour) for name, place in members.items()]
    for error, meaning in ((ERROR_GOOD, "good up to here"), (ERROR_REFUSED, "refused from here")):
        ax.axhline(error, color="black", linewidth=0.8, linestyle=":")
        ax.text(0.01, error, meaning, transform=ax.get_yaxis_transform(), va="bottom", fontsize=7)
    ax.set_yscale("log")
    ax.margins(x=0.15, y=0.1)
    ax.set_xlabel("times FP32's speed")
    ax.set_ylabel("error of the margin, in draw noise")
    ax.set_title(f"{report.bundle}, {report.judged_on} images", fontsize=9)
    figure.legend(loc="outside lower center", ncols=len(_LOOKS), frameon=False)
    figure.draw_without_rendering()  # settles where everything is: labels must find room
    labels = Labels(ax, [place for place, *_ in named], size=7)
    for place, name, colour in named:
        labels.write(place, name, colour)
    return png(figure)
