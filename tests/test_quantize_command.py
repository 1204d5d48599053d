"""glass-quantize: from an FP32 bundle to a faster one, and what each layer would cost."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
import onnx
import pytest
from conftest import EXAMPLES, JUDGEMENTS, call, launch, refusal, slow, slow_but
from glass_edge.calibration.images import split_images
from glass_edge.calibration.int8.layers import find_layers, form_of
from glass_edge.calibration.int8.report import SensitivityReport
from glass_edge.calibration.making.quantize import quantize_bundle
from glass_edge.calibration.options import VariantOptions
from glass_edge.export.exporter import ExportOptions, export_bundle
from glass_edge.runtime.bundle.model_card import model_card
from PIL import Image

from glass_edge import Bundle, BundleError, InputError

run = partial(call, "glass-quantize")
PHOTOGRAPHS = ("fake/cat", "real/cat", "fake/coffee", "real/coffee", "real/rocket")
QUICKLY = ("--judgements", JUDGEMENTS, "--accept-loss")
INT8 = ("--precision", "int8", "--int8-budget", "0", *QUICKLY)
FP16 = VariantOptions("fp16", None, judgements=1, accept_loss=True)
BLUE, ORANGE = (8, 81, 156), (230, 132, 42)  # the global and the local graph's bars
SHOWN, PLOTTED = 20, 30


def run_without(libraries: Sequence[str], place: Path, *arguments: object):
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({libraries!r}))\n"
        "from glass_edge.calibration.commands.quantize import main; main()"
    )
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, cwd=place, env=own_cache(place), capture_output=True, text=True)


def own_cache(place: Path) -> dict[str, str]:
    """The environment of a run in a folder that also holds its cache."""
    return os.environ | {"GLASS_CACHE": str(place / "cache")}


def refused(place: Path, *arguments: object) -> str:
    return refusal(run(place, *arguments))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """The fewest photographs that will do."""
    folder = tmp_path_factory.mktemp("calibration-images")
    for name in PHOTOGRAPHS:
        shutil.copy(EXAMPLES / f"{name}.jpg", folder / f"{name.replace('/', '-')}.jpg")
    return folder


@pytest.fixture
def place(tmp_path, vit_bundle) -> Path:
    """A working directory with one bundle."""
    (tmp_path / "gl_vit.glass").symlink_to(vit_bundle.path)
    return tmp_path


class TestABundle:
    @pytest.mark.parametrize("precision", ["fp16", slow("bf16")])
    def test_is_made_of_the_only_one_here(self, precision, place, vit_bundle):
        before = vit_bundle.digest
        done = run(place, "--precision", precision, *QUICKLY)
        assert done.returncode == 0, done.stderr
        assert names(place) == [f"gl_vit.{precision}.glass", "gl_vit.glass"]
        made = Bundle.open(place / f"gl_vit.{precision}.glass")
        assert made.manifest.precision == precision
        assert made.manifest.checkpoint == vit_bundle.manifest.checkpoint
        assert made.manifest.parity == vit_bundle.manifest.parity
        assert (made.path / "MODEL_CARD.md").read_text() == model_card(made)
        assert Bundle.open(place / "gl_vit.glass").digest == before

    def test_in_int8_takes_its_ranges_from_images(self, place, images):
        done = run(place, "gl_vit.glass", *INT8, "--calibrate", images, "-o", "fast.glass")
        assert done.returncode == 0, done.stderr
        manifest = Bundle.open(place / "fast.glass").manifest
        assert manifest.calibration is not None
        assert manifest.calibration.data == split_images(images, 512).digest
        assert "only 4 images to calibrate on" in done.stderr

    def test_is_summed_up_on_the_screen(self, place, vit_bundle):
        done = run(place, "gl_vit.glass", "--precision", "bf16", *QUICKLY)
        lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
        assert {"source", "bundle", "verdicts"} <= lines.keys()
        assert lines["source"] == "gl_vit.glass"
        assert lines["bundle"].startswith("gl_vit.bf16.glass (bf16, ")
        assert "differ from FP32's" in lines["verdicts"]
        assert all(line.startswith("Note: ") for line in done.stderr.splitlines())

    def test_is_the_one_that_the_export_makes_in_one_call(self, checkpoints, vit_bundle, tmp_path):
        exported = export_bundle(
            checkpoints["vit"], tmp_path / "exported.glass", ExportOptions(variant=FP16)
        )
        made = quantize_bundle(vit_bundle, tmp_path / "made.glass", FP16)
        assert made.graphs_digest == exported.graphs_digest
        assert made.manifest.versions == exported.manifest.versions
        assert names(tmp_path) == ["exported.glass", "made.glass"]

    @pytest.mark.slow
    def test_names_the_libraries_that_made_it(self, copied_bundle, tmp_path):
        path = copied_bundle / "glass.json"
        fields = json.loads(path.read_text())
        path.write_text(json.dumps(fields | {"versions": {"torch": "2.0", "onnx": "1.0"}}))
        versions = quantize_bundle(
            Bundle.open(copied_bundle), tmp_path / "made.glass", FP16
        ).manifest.versions
        assert versions["torch"] != "1.0"
        assert versions["onnx"] == onnx.__version__

    @pytest.mark.slow
    def test_is_replaced_only_by_force(self, place, vit_bundle):
        shutil.copytree(vit_bundle.path, place / "gl_vit.fp16.glass")
        arguments = ("gl_vit.glass", "--precision", "fp16", *QUICKLY)
        assert "--force to replace it" in refused(place, *arguments)
        done = run(place, *arguments, "--force")
        assert done.returncode == 0, done.stderr
        assert Bundle.open(place / "gl_vit.fp16.glass").manifest.precision == "fp16"
        assert names(place) == ["gl_vit.fp16.glass", "gl_vit.glass"]

    @pytest.mark.parametrize("target", ["gl_vit.glass", "gl_vit.glass/made.glass", "."])
    def test_never_takes_the_place_of_its_source(self, target, vit_bundle, tmp_path):
        source = Path(shutil.copytree(vit_bundle.path, tmp_path / "gl_vit.glass"))
        shutil.copy(source / "glass.json", tmp_path)  # so that the folder looks like a bundle
        before = names(source)
        sentence = refused(tmp_path, source, "--precision", "fp16", "--force", "-o", target)
        assert "it would replace or change that: choose another name." in sentence
        assert names(source) == before

    def test_is_not_kept_if_its_source_was_changed_meanwhile(self, copied_bundle, tmp_path):
        @contextmanager
        def changing(label: str) -> Iterator[object]:
            (copied_bundle / "global.onnx").write_bytes(b"another graph")
            yield lambda done, total, what="": None

        source = Bundle.open(copied_bundle)
        with pytest.raises(BundleError, match="was changed since it was opened"):
            quantize_bundle(source, tmp_path / "made.glass", FP16, progress=changing_last(changing))
        assert names(tmp_path) == ["copied.glass"]


def changing_last(change: Callable) -> Callable:
    """A progress that changes something in the last phase, and shows nothing."""

    @contextmanager
    def progress(label: str) -> Iterator[object]:
        if label == "judging the reference views":
            with change(label) as report:
                yield report
        else:
            yield lambda done, total, what="": None

    return progress


class TestBadInput:
    """One sentence, exit code 2, and nothing is written."""

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ([], "say what to make, one of the three: --precision fp16, bf16, int8"),
            (["--layers", "--precision", "int8"], "say what to make, one of the three"),
            (["--precision", "in8"], "'in8' is not one of 'fp16', 'bf16', 'int8'. Did you mean"),
            (["--precision", "fp32"], "The bundle to start from is in fp32."),
            (["--precision", "int8"], "name their folder with --calibrate"),
            (["--precision", "INT8"], "name their folder with --calibrate"),
            (["nowhere.glass", "--precision", "fp16"], "no such folder; make one with"),
            (["gl_vit.glas", "--precision", "fp16"], "Did you mean gl_vit.glass?"),
            (["--precision", "fp16", "-o", "nowhere/a.glass"], "folder nowhere does not exist"),
            (["--precision", "fp16", "-o", "a.glass", "-o", "b.glass"], "give --output once"),
            (["--precision", "fp16", "-o", "layers.md"], "layers.md is named like a report"),
            (["--precision", "fp16", "--judgements", "0"], "at least 1, not 0"),
            (
                ["--precision", "fp16", "--int8-budget", "0.75"],
                "--int8-budget means nothing with --precision fp16: leave it out, or choose int8.",
            ),
            (["--precision", "int8", "--calibration-method", "auto"], "is gone: ranges are always"),
            (["--precision", "int8", "--int8-budget", "2"], "must lie between 0 and 1"),
            (["--precision", "int8", "--int8-keep", "-1"], "must be at least 0, not -1"),
            (
                ["--precision", "int8", "--int8-keep", "4", "--int8-budget", "0.5"],
                "--int8-keep says how many layers are kept, and --int8-budget how many may be",
            ),
            (["--precision", "int8", "--calibrate", "nowhere"], "'nowhere' does not exist"),
            (["--precision", "int8", "--calibrate", "empty"], "holds no image"),
            (["--precision", "fp16", "--calibrate", "empty"], "holds no image"),
            (["--precision", "int8", "--calibrate", "one"], "one holds 1 different images, and at"),
            (["--layers"], "name their folder with --calibrate"),
            (["--layers", "--calibrate", "nowhere"], "'nowhere' does not exist"),
            (["--layers", "--calibrate", "one"], "at least 5 are needed"),
            (["--layers", "--judgements", "5"], "--judgements means nothing with --layers"),
            (["--layers", "-o", "fast.glass"], "fast.glass is named like a bundle, and --layers"),
            (["--layers", "-o", "layers.xml"], "a name that ends in .json, .md or .png"),
            (["--layers", "-o", "missing/a.json"], "there is no folder missing"),
            (["--layers", "--calibration-images", "0"], "must be at least 1, not 0"),
            (["--layers", "--calibration-method", "minmax"], "Leave it out."),
        ],
    )
    def test_of_the_command_line(self, arguments, sentence, place):
        (place / "empty").mkdir()
        (place / "one").mkdir()
        shutil.copy(EXAMPLES / "real" / "cat.jpg", place / "one")
        before = names(place)
        assert sentence in refused(place, *arguments)
        assert names(place) == before

    @pytest.mark.parametrize("what", [("--precision", "fp16"), ("--layers",)])
    def test_a_bundle_that_is_not_fp32(self, what, copied_bundle, tmp_path, images):
        path = copied_bundle / "glass.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"precision": "int8"}))
        sentence = refused(tmp_path, copied_bundle, *what, "--calibrate", images)
        assert sentence.endswith("is int8; name the FP32 bundle it came from.")
        with pytest.raises(InputError, match="is int8"):
            quantize_bundle(Bundle.open(copied_bundle), tmp_path / "made.glass", FP16)
        assert names(tmp_path) == ["copied.glass"]

    def test_a_damaged_bundle(self, copied_bundle, tmp_path):
        with open(copied_bundle / "local.onnx", "ab") as file:
            file.write(b"\0")
        sentence = refused(tmp_path, "copied.glass", "--precision", "fp16")
        assert "local.onnx is damaged or was changed" in sentence

    def test_a_precision_that_no_engine_here_computes(self, place):
        done = run_without(["openvino"], place, "gl_vit.glass", "--precision", "bf16", *QUICKLY)
        assert refusal(done) == (  # before any work: its engine alone would name a graph
            "Error: ONNX Runtime cannot compute BF16 on the CPU: use OpenVINO "
            "(pip install 'glass-edge[openvino]'), or another precision."
        )
        assert names(place) == ["gl_vit.glass"]

    def test_images_that_show_nothing(self, place):
        (place / "black").mkdir()
        for side in range(50, 56):
            Image.new("RGB", (side, side)).save(place / "black" / f"{side}.png")
        arguments = (*INT8, "--calibrate", "black")
        assert "calibration images are of one colour" in refused(place, *arguments)
        assert names(place) == ["black", "gl_vit.glass"]

    @pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, which nobody may write")
    def test_a_folder_that_cannot_be_written(self, place):
        sentence = refused(place, "--precision", "fp16", "-o", "/proc/gl_vit.glass")
        assert "/proc/gl_vit.glass cannot be written" in sentence

    @pytest.mark.parametrize(
        ("library", "what", "extra"),
        [
            ("onnx", "quantizing", "quantize"),
            ("onnxruntime", "quantizing", "quantize"),
            ("ml_dtypes", "quantizing", "quantize"),
            ("matplotlib", "a plot", "eval"),
        ],
    )
    def test_a_missing_library_is_named(self, library, what, extra, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, library, None)
        sentence = refused(tmp_path, "--layers", "--calibrate", EXAMPLES, "-o", "layers.png")
        advice = f"{library}, which is not installed: pip install 'glass-edge[{extra}]'."
        assert f"{what} needs {advice}" in sentence


INTERRUPTED = """
import os, sys
from contextlib import contextmanager
from threading import Timer
from glass_edge.calibration.commands import options, quantize
from glass_edge.runtime.commands.progress import on_console

number, phases = int(sys.argv.pop(1)), int(sys.argv.pop(1))

@contextmanager
def interrupted(label):
    global phases
    with on_console(label) as report:
        if not phases:
            Timer(0.02, os.kill, (os.getpid(), number)).start()
        phases -= 1
        yield report

quantize.on_console = interrupted
quantize.main()
"""
"""Sends itself a signal while it is busy with the phase of this number."""
PHASES = 9  # of making INT8
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.mark.parametrize(
    ("phase", "number", "code"),
    slow_but(
        [(5, *SIGNALS[0]), (7, *SIGNALS[1])],
        [(phase, *signals) for phase in range(PHASES) for signals in SIGNALS],
    ),
)
def test_an_interruption_leaves_nothing_behind(phase, number, code, place, images):
    for name in ("tmp", "cache"):
        (place / name).mkdir()
    command = [sys.executable, "-c", INTERRUPTED, str(int(number)), str(phase)]
    done = subprocess.run(
        [*command, "gl_vit.glass", *map(str, INT8), "--calibrate", images],
        cwd=place, env=own_cache(place) | {"TMPDIR": str(place / "tmp")},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert done.stderr.endswith("Error: interrupted.\n")
    assert done.stdout == ""
    assert names(place) == ["cache", "gl_vit.glass", "tmp"]
    assert names(place / "tmp") == []


def test_every_phase_is_told(vit_bundle, images, tmp_path):
    """By name when it begins, and how much is done where that can be counted."""
    told: dict[str, list[tuple[int, int | None]]] = {}

    @contextmanager
    def telling(label: str) -> Iterator[object]:
        yield lambda done, total, what="": told.setdefault(label, []).append((done, total))

    sets = split_images(images, 512, progress=telling)
    options = VariantOptions("fp16", sets, judgements=1, accept_loss=True)
    quantize_bundle(vit_bundle, tmp_path / "made.glass", options, progress=telling)
    assert told["reading images"] == [(count, 5) for count in range(6)]
    assert told["comparing with FP32"][-1] == (1, 1)  # one image, all draws at once


def test_help_has_examples_and_loads_nothing_heavy(tmp_path):
    done = run_without(["onnx", "onnxruntime", "matplotlib"], tmp_path, "--help")
    assert done.returncode == 0, done.stderr
    assert "glass-quantize gl_vit.glass --precision int8 --calibrate photographs/" in done.stdout


def read(path: Path) -> SensitivityReport:
    return msgspec.json.decode(path.read_bytes(), type=SensitivityReport)


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """When each file was written, and what it holds."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*.json")}


def layers_of(bundle: Bundle) -> list[tuple[str, str, str, str]]:
    found = []
    for role in ("global", "local"):
        graph = onnx.load(bundle.graph_path(role)).graph
        layers = find_layers(graph, bundle.manifest.backbone, form_of("fp32"))
        found += [(role, layer.node, layer.kind, layer.label) for layer in layers]
    return sorted(found)


@pytest.fixture(scope="module")
def convnext(export_family) -> Bundle:
    return export_family("convnext")


@pytest.fixture(scope="module")
def reported(tmp_path_factory, convnext, images) -> Path:
    """A working directory with one bundle and the files of one run."""
    place = tmp_path_factory.mktemp("layers")
    (place / "here.glass").symlink_to(convnext.path)
    outputs = ["-o", "layers.json", "-o", "layers.md", "-o", "layers.png"]
    arguments = ("--layers", "--calibrate", images, *outputs)
    done = launch("glass-quantize", place, *arguments, env=own_cache(place))
    assert done.returncode == 0, done.stderr
    (place / "screen").write_text(done.stdout)
    (place / "notes").write_text(done.stderr)
    return place


@pytest.fixture(scope="module")
def report(reported) -> SensitivityReport:
    return read(reported / "layers.json")


class TestLayers:
    """``--layers``: what INT8 costs in each, in one report."""

    def test_no_bundle_is_made(self, reported):
        assert [path.name for path in reported.glob("*.glass")] == ["here.glass"]
        assert not list(reported.glob(".*"))

    def test_every_layer_of_both_graphs_is_reported_once(self, report, convnext):
        found = [(each.graph, each.node, each.kind, each.label) for each in report.layers]
        assert sorted(found) == layers_of(convnext)

    def test_the_layer_worth_most_to_keep_comes_first(self, report):
        gains = [each.error**2 / each.work for each in report.layers]
        assert gains == sorted(gains, reverse=True)
        assert min(each.error for each in report.layers) >= 0
        assert max(each.error for each in report.layers) > 1e-4
        assert {each.graph for each in report.layers[:10]} == {"global", "local"}

    def test_the_report_says_what_it_comes_from(self, report, convnext, images):
        assert (report.schema, report.bundle, report.bundle_digest) == (
            3,
            convnext.name,
            convnext.digest,
        )
        assert (report.images, report.data) == (4, split_images(images, 512).digest)
        assert report.noise > 0
        assert f"shares of the draws' noise, {report.noise:.3g} in the margin" in report.summary()
        assert report.command.startswith("glass-quantize --layers ")
        assert {"numpy", "onnx", "onnxruntime"} <= set(report.environment.libraries)

    def test_json_markdown_and_plot_come_from_one_object(self, reported, report):
        assert report.to_json() == (reported / "layers.json").read_bytes()
        assert report.to_markdown() == (reported / "layers.md").read_text()
        assert report.to_png() == (reported / "layers.png").read_bytes()

    def test_markdown_has_a_row_for_each_layer(self, report):
        rows = [line for line in report.to_markdown().splitlines() if line.startswith("|")][2:]
        cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
        assert cells == [
            [
                *(each.label, each.graph, each.kind, each.node),
                *(f"{each.work / 1e6:.1f}", f"{each.error:.4f}"),
            ]
            for each in report.layers
        ]
        assert len({len(row) for row in rows}) == 1

    def test_the_screen_shows_the_first_and_how_many_there_are_besides(self, reported, report):
        screen = (reported / "screen").read_text()
        assert screen.startswith(report.summary())
        assert report.table(SHOWN) in screen
        assert len(report.table(SHOWN).splitlines()) == 2 + SHOWN
        assert f"\n… and {len(report.layers) - SHOWN} more, worth less to keep" in screen

    def test_notes_go_to_stderr_and_into_the_report(self, reported, report):
        (note,) = report.notes
        assert "only 4 images to calibrate on" in note
        assert (reported / "notes").read_text() == f"bundle: here.glass\nNote: {note}\n"
        assert f"- {note}" in report.to_markdown()

    def test_the_plot_shows_the_worst_layers_by_graph(self, reported, report):
        sizes = []
        for count in (PLOTTED, PLOTTED - 10):
            fewer = msgspec.structs.replace(report, layers=report.layers[:count])
            with Image.open(io.BytesIO(fewer.to_png())) as image:
                sizes.append(image.size)
        with Image.open(reported / "layers.png") as image:
            assert image.format == "PNG"
            assert image.size == sizes[0]
            colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}
        assert len(report.layers) > PLOTTED
        assert sizes[0] == (1200, 1200)
        assert sizes[1][1] < 1000
        assert {BLUE, ORANGE} <= colours

    def test_a_second_run_reads_the_ranges_and_finds_the_same(
        self, reported, report, convnext, images
    ):
        """And without a plot it needs neither matplotlib nor, ever, torch."""
        written = contents(reported / "cache")
        assert len(written) == 2
        arguments = [convnext.path, "--layers", "--calibrate", images, "-o", "again.json"]
        done = run_without(["matplotlib", "torch"], reported, *arguments)
        assert done.returncode == 0, done.stderr
        assert contents(reported / "cache") == written
        assert (
            msgspec.structs.replace(read(reported / "again.json"), command=report.command) == report
        )
        assert done.stdout == (reported / "screen").read_text()

    @pytest.mark.slow
    def test_the_number_of_images_can_be_chosen(self, tmp_path, vit_bundle):
        options = ["--calibration-images", "4", "--calibrate", EXAMPLES]
        done = run(tmp_path, vit_bundle.path, "--layers", *options, "-o", "layers.json")
        assert done.returncode == 0, done.stderr
        found = read(tmp_path / "layers.json")
        assert (found.bundle, found.images) == (vit_bundle.name, 4)

    @pytest.mark.parametrize("name", ["layers.json", "layers.md", "layers.png"])
    def test_results_are_not_overwritten_unasked(self, name, tmp_path, vit_bundle, images):
        (tmp_path / name).write_text("precious")
        sentence = refused(tmp_path, vit_bundle.path, "--layers", "--calibrate", images, "-o", name)
        assert "--force" in sentence
        assert (tmp_path / name).read_text() == "precious"
