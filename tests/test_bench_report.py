"""glass-bench report: what a report costs a run, and a page a browser."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest
from conftest import ROOT, call, refusal
from glass_edge.benchmarks.measuring.samples import Samples
from glass_edge.benchmarks.reports.browser import browser, find_browser, opened
from glass_edge.benchmarks.reports.programs import RUN, seconds_of
from glass_edge.benchmarks.reports.report import ReportCosts, WayToRun

from glass_edge import EngineError

run = partial(call, "glass-bench", ROOT, "report")


@pytest.mark.slow
def test_every_way_and_every_page_is_measured(vit_bundle, photographs, tmp_path):
    outputs = ["-o", tmp_path / "report.json", "-o", tmp_path / "report.md"]
    pages = ["--rows", 4, "--rows", 9]
    done = run(*photographs[4:7], "-b", vit_bundle.path, "--rounds", 2, *pages, *outputs)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.md").read_text() == done.stdout
    report = msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=ReportCosts)
    assert [way.options for way in report.ways] == ["", "--report report.html", "--provenance"]
    assert [(page.rows, page.folder) for page in report.pages] == [(4, False), (9, True)]
    assert all(len(way.seconds.seconds) == 2 for way in report.ways)
    assert all(page.opened and page.heap and page.elements for page in report.pages)
    assert {cost.format for cost in report.claims} >= {"JPEG", "PNG"}


def test_ways_are_compared_within_a_round(tmp_path):
    """A machine that is slow in one round is slow for all ways in it."""
    plain, reported = Samples((1.0, 10.0, 1.0)), Samples((1.1, 11.0, 1.1))
    ways = (WayToRun("", plain), WayToRun("--report report.html", reported))
    text = (ROOT / "docs" / "reports" / "report.json").read_bytes()
    report = msgspec.structs.replace(msgspec.json.decode(text, type=ReportCosts), ways=ways)
    assert "1.100 |" in report.run_table()


def test_a_program_that_fails_is_an_error_with_its_sentence(tmp_path):
    with pytest.raises(EngineError, match=r"glass-run failed: Error: .*no-such\.glass"):
        seconds_of(RUN, ["photo.jpg", "-b", "no-such.glass"], tmp_path)


def test_a_page_is_opened_in_a_real_browser(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><p class='card'>one</p><p>two</p>")
    with browser(find_browser()) as started:
        found = opened(started, page)
    assert 0 < found.seconds < 30
    assert found.heap > 0
    assert found.elements >= 5


def test_images_that_are_not_there_are_one_sentence(vit_bundle):
    assert "no-such-folder" in refusal(run("no-such-folder/*.jpg", "-b", vit_bundle.path))
