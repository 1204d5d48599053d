"""glass-calibrate: every layer's price, from real images, in one report."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
import onnx
import pytest
from conftest import EXAMPLES, call, launch, refusal
from glass_edge.calibration.images import split_images
from glass_edge.calibration.int8.histogram import METHODS
from glass_edge.calibration.int8.layers import find_layers
from glass_edge.calibration.int8.report import SensitivityReport
from PIL import Image

from glass_edge import Bundle

run = partial(call, "glass-calibrate")
PHOTOGRAPHS = ("fake/cat", "real/cat", "fake/coffee", "real/coffee", "real/rocket")
BLUE, ORANGE = (8, 81, 156), (230, 132, 42)  # the global and the local graph's bars
SHOWN, PLOTTED = 20, 30


def run_without(libraries: Sequence[str], place: Path, *arguments: str | Path):
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({libraries!r}))\n"
        "from glass_edge.calibration.cli import main; main()"
    )
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=place, env=own_cache(place), capture_output=True, text=True)


def own_cache(place: Path) -> dict[str, str]:
    """The environment of a run in a folder that also holds its cache."""
    return os.environ | {"GLASS_CACHE": str(place / "cache")}


def refused(place: Path, *arguments: str | Path) -> str:
    return refusal(run(place, *arguments))


def read(path: Path) -> SensitivityReport:
    return msgspec.json.decode(path.read_bytes(), type=SensitivityReport)


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """When each file was written, and what it holds."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*.json")}


def layers_of(bundle: Bundle) -> list[tuple[str, str, str, str]]:
    found = []
    for role in ("global", "local"):
        graph = onnx.load(bundle.graph_path(role)).graph
        layers = find_layers(graph, bundle.manifest.backbone)
        found += [(role, layer.node, layer.kind, layer.label) for layer in layers]
    return sorted(found)


@pytest.fixture(scope="module")
def bundle(export_family) -> Bundle:
    return export_family("convnext")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """The fewest photographs that will do."""
    folder = tmp_path_factory.mktemp("calibration-images")
    for name in PHOTOGRAPHS:
        shutil.copy(EXAMPLES / f"{name}.jpg", folder / f"{name.replace('/', '-')}.jpg")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory, bundle, images) -> Path:
    """A working directory with one bundle and the files of one run."""
    place = tmp_path_factory.mktemp("calibrated")
    (place / "here.glass").symlink_to(bundle.path)
    outputs = ["-o", "layers.json", "-o", "layers.md", "-o", "layers.png"]
    done = launch("glass-calibrate", place, images, *outputs, env=own_cache(place))
    assert done.returncode == 0, done.stderr
    (place / "screen").write_text(done.stdout)
    (place / "notes").write_text(done.stderr)
    return place


@pytest.fixture(scope="module")
def report(place) -> SensitivityReport:
    return read(place / "layers.json")


def test_every_layer_of_both_graphs_is_reported_once(report, bundle):
    found = [(each.graph, each.node, each.kind, each.label) for each in report.layers]
    assert sorted(found) == layers_of(bundle)


def test_the_dearest_layer_comes_first(report):
    errors = [each.logit_error for each in report.layers]
    assert errors == sorted(errors, reverse=True)
    assert min(errors) >= 0
    assert max(errors) > 1e-4
    assert {each.graph for each in report.layers[:10]} == {"global", "local"}


def test_the_report_says_what_it_comes_from(report, bundle, images):
    assert (report.schema, report.bundle, report.bundle_digest) == (1, bundle.name, bundle.digest)
    assert (report.images, report.data) == (4, split_images(images, 512).digest)
    assert list(report.methods) == ["global", "local"]
    assert set(report.methods.values()) <= set(METHODS)
    assert report.command.startswith("glass-calibrate ")
    assert {"numpy", "onnx", "onnxruntime"} <= set(report.environment.libraries)


def test_json_markdown_and_plot_come_from_one_object(place, report):
    assert report.to_json() == (place / "layers.json").read_bytes()
    assert report.to_markdown() == (place / "layers.md").read_text()
    assert report.to_png() == (place / "layers.png").read_bytes()


def test_markdown_has_a_row_for_each_layer(report):
    rows = [line for line in report.to_markdown().splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells == [
        [each.label, each.graph, each.kind, each.node, f"{each.logit_error:.2e}"]
        for each in report.layers
    ]
    assert len({len(row) for row in rows}) == 1


def test_the_screen_shows_the_worst_and_how_many_there_are_besides(place, report):
    screen = (place / "screen").read_text()
    assert screen.startswith(report.summary())
    assert report.table(SHOWN) in screen
    assert len(report.table(SHOWN).splitlines()) == 2 + SHOWN
    assert f"\n… and {len(report.layers) - SHOWN} more with smaller errors" in screen


def test_notes_go_to_stderr_and_into_the_report(place, report):
    (note,) = report.notes
    assert "only 4 images to calibrate on" in note
    assert (place / "notes").read_text() == f"bundle: here.glass\nNote: {note}\n"
    assert f"- {note}" in report.to_markdown()


def test_the_plot_shows_the_worst_layers_by_graph(place, report):
    sizes = []
    for count in (PLOTTED, PLOTTED - 10):
        fewer = msgspec.structs.replace(report, layers=report.layers[:count])
        with Image.open(io.BytesIO(fewer.to_png())) as image:
            sizes.append(image.size)
    with Image.open(place / "layers.png") as image:
        assert image.format == "PNG"
        assert image.size == sizes[0]
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}
    assert len(report.layers) > PLOTTED
    assert sizes[0] == (1200, 1200)
    assert sizes[1][1] < 1000
    assert {BLUE, ORANGE} <= colours


def test_a_second_run_reads_the_ranges_and_finds_the_same(place, report, bundle, images):
    """And without a plot it needs neither matplotlib nor, ever, torch."""
    written = contents(place / "cache")
    assert len(written) == 2
    arguments = [images, "-b", bundle.path, "-o", "again.json"]
    done = run_without(["matplotlib", "torch"], place, *arguments)
    assert done.returncode == 0, done.stderr
    assert contents(place / "cache") == written
    assert msgspec.structs.replace(read(place / "again.json"), command=report.command) == report
    assert done.stdout == (place / "screen").read_text()


def test_images_and_method_can_be_chosen(tmp_path, vit_bundle):
    options = ["--calibration-images", "4", "--calibration-method", "percentile"]
    done = run(tmp_path, EXAMPLES, "-b", vit_bundle.path, *options, "-o", "layers.json")
    assert done.returncode == 0, done.stderr
    found = read(tmp_path / "layers.json")
    assert (found.bundle, found.images) == (vit_bundle.name, 4)
    assert found.methods == {"global": "percentile", "local": "percentile"}


def test_an_int8_bundle_is_refused(copied_bundle, tmp_path, images):
    path = copied_bundle / "glass.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"precision": "int8"}))
    sentence = refused(tmp_path, images, "-b", copied_bundle)
    assert sentence.endswith("is int8; name the FP32 bundle it came from.")


def test_too_few_images_are_refused(tmp_path, vit_bundle):
    (tmp_path / "one").mkdir()
    shutil.copy(EXAMPLES / "real" / "cat.jpg", tmp_path / "one")
    sentence = refused(tmp_path, "one", "-b", vit_bundle.path)
    assert "one holds 1 different images, and at least 5 are needed" in sentence


@pytest.mark.parametrize("name", ["layers.json", "layers.md", "layers.png"])
def test_results_are_not_overwritten_unasked(name, tmp_path, vit_bundle, images):
    (tmp_path / name).write_text("precious")
    sentence = refused(tmp_path, images, "-b", vit_bundle.path, "-o", name)
    assert "--force" in sentence
    assert (tmp_path / name).read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Missing argument 'DIR'"),
        (["nowhere"], "Directory 'nowhere' does not exist"),
        ([EXAMPLES], "there is no *.glass in the working directory"),
        ([EXAMPLES, "-b", "nowhere.glass"], "no such folder; make one with glass-export"),
        ([EXAMPLES, "-o", "layers.xml"], "a name that ends in .json, .md or .png"),
        ([EXAMPLES, "-o", "missing/a.json"], "there is no folder missing"),
        ([EXAMPLES, "--calibration-images", "0"], "must be at least 1, not 0"),
        ([EXAMPLES, "--calibration-method", "best"], "is not one of 'auto'"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(arguments, sentence, tmp_path):
    assert sentence in refused(tmp_path, *arguments)


@pytest.mark.parametrize(
    ("library", "what", "extra"),
    [
        ("onnx", "calibrating", "export"),
        ("onnxruntime", "calibrating", "export"),
        ("matplotlib", "a plot", "eval"),
    ],
)
def test_a_missing_library_is_named(library, what, extra, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    advice = f"{what} needs {library}, which is not installed: pip install 'glass-edge[{extra}]'."
    assert advice in refused(tmp_path, EXAMPLES, "-o", "layers.png")


def test_help_has_examples_and_loads_nothing_heavy(tmp_path):
    done = run_without(["onnx", "onnxruntime", "matplotlib"], tmp_path, "--help")
    assert done.returncode == 0, done.stderr
    assert "glass-calibrate photographs/" in done.stdout
