"""What the plots of all benchmarks share: one figure, one set of colours, one PNG.

Colours are Okabe and Ito's, which colour-blind readers tell apart, with grey for their yellow,
which fades on white; markers and hatches differ as well.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#7F7F7F", "#000000")
MARKERS = "osD^vP*X<>"
_DPI = 140


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of some inches.

    A Figure of its own leaves pyplot's global state and its choice of a display alone.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def short_name(name: str) -> str:
    """Return a contender's name without its bundle's digest and suffix."""
    bundle, at, rest = name.partition("@")
    if not at:
        return name
    return f"{bundle.removesuffix('.glass')}, {rest.partition(', ')[2]}"


def colour(index: int) -> str:
    """Return the colour of the n-th contender."""
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    """Return the marker of the n-th contender."""
    return MARKERS[index % len(MARKERS)]
