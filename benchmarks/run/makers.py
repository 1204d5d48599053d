"""The report of ``glass-bench run`` in every format."""

from __future__ import annotations

from functools import partial

from ...runtime.commands.reports import JSON, MARKDOWN, PICTURE, Makers
from .plots import plot_run
from .report import RunReport
from .tables import run_markdown


def run_makers(report: RunReport) -> Makers:
    """Return what makes the report's JSON, tables and plots."""
    return {
        JSON: report.to_json,
        MARKDOWN: partial(run_markdown, report),
        PICTURE: partial(plot_run, report),
    }
