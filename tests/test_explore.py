"""glass-quantize --explore: error against speed, so that a user can choose a precision."""

from __future__ import annotations

import io
import itertools
import os
import platform
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from conftest import EXAMPLES, JUDGEMENTS, call, refusal, slow_but
from glass_edge.calibration.errors import AccuracyError
from glass_edge.calibration.images import split_images
from glass_edge.calibration.int8 import search as int8_search
from glass_edge.calibration.int8.search import Int8Search
from glass_edge.calibration.judging.comparison import open_on_cpu
from glass_edge.calibration.judging.gate import check_comparison, loss_note
from glass_edge.calibration.judging.timed import Speed, measure_speeds
from glass_edge.calibration.making import explore as module
from glass_edge.calibration.making import picture
from glass_edge.calibration.making.explore import explore, kept_counts
from glass_edge.calibration.making.explored import Choice, Exploration
from glass_edge.calibration.making.labels import Labels
from glass_edge.calibration.making.variants import Made, scratch_folder
from glass_edge.calibration.options import CalibrationOptions
from glass_edge.runtime.bundle.comparison import Comparison, Yardstick
from glass_edge.runtime.bundle.streams import Role
from glass_edge.runtime.engines.base import X86
from matplotlib.figure import Figure
from networks import BACKBONES
from onnx import GraphProto, ModelProto, numpy_helper
from PIL import Image

from glass_edge import InputError, OutputError

run = partial(call, "glass-quantize")
IMAGES, BUDGET = 8, 0.11
RED = (214, 39, 40)  # the ring around the default
ZONES = {(234, 244, 234), (253, 246, 224), (251, 233, 230)}  # good, fair, refused


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@dataclass
class Explored:
    """One run of the command, and what passed through its hands."""

    place: Path
    images: Path
    screen: str = ""
    notes: str = ""
    searches: list[Int8Search] = field(default_factory=list)
    made: dict[str, list[Mapping[Role, ModelProto]]] = field(default_factory=dict)

    @property
    def report(self) -> Exploration:
        return msgspec.json.decode((self.place / "explore.json").read_bytes(), type=Exploration)

    @property
    def int8(self) -> list[Choice]:
        return [each for each in self.report.choices if each.precision == "int8"]


def never_enough(patch: pytest.MonkeyPatch) -> None:
    """Let no number of kept layers be enough, and each be better than those before it."""
    falling = itertools.count(1000, -1)
    patch.setattr(int8_search, "holds", lambda deviation: False)
    patch.setattr(int8_search, "excess", lambda deviation: next(falling))


@pytest.fixture(scope="module")
def explored(tmp_path_factory, vit_bundle, calibration_images) -> Explored:
    """A small ViT of which the default spends the whole budget, as if no trial held before."""
    place = tmp_path_factory.mktemp("explore")
    (place / "gl_vit.glass").symlink_to(vit_bundle.path)
    (place / "tmp").mkdir()
    found = Explored(place, calibration_images)

    def search(*arguments):
        found.searches.append(Int8Search(*arguments))
        return found.searches[-1]

    def write(reference, folder, made, precision):
        found.made.setdefault(precision, []).append(made.graphs)
        return write_variant(reference, folder, made, precision)

    write_variant = module.write_variant
    with pytest.MonkeyPatch.context() as patch:
        never_enough(patch)
        patch.setattr(module, "Int8Search", search)
        patch.setattr(module, "write_variant", write)
        patch.setattr("tempfile.tempdir", str(place / "tmp"))
        done = run(
            place, "--explore", "--calibrate", calibration_images, "--calibration-images", IMAGES,
            "--int8-budget", BUDGET, "--judgements", JUDGEMENTS,
            *("-o", "explore.json", "-o", "explore.md", "-o", "explore.png"),
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found.screen, found.notes = done.stdout, done.stderr
    return found


@pytest.mark.parametrize(
    ("most", "default", "counts"),
    [
        (0, 0, [0]),
        (1, 0, [0, 1]),
        (14, 14, [0, 1, 2, 4, 8, 14]),
        (16, 5, [0, 1, 2, 4, 5, 8, 16]),
        (80, 8, [0, 1, 2, 4, 8, 16, 32, 64]),
    ],
)
def test_powers_of_two_are_kept_within_the_budget_and_what_the_default_keeps(most, default, counts):
    assert kept_counts(most, default) == counts


def in_int8(graph: GraphProto) -> set[str]:
    """Name the nodes that read rounded values."""
    rounded = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    return {node.name for node in graph.node if node.input and node.input[0] in rounded}


class TestWhatIsExplored:
    def test_every_precision_and_the_default_are(self, explored):
        report = explored.report
        most = int(BUDGET * report.layers)
        expected = [("fp16", None), ("bf16", None)]
        expected += [("int8", count) for count in kept_counts(most, most)]
        assert [(each.precision, each.kept) for each in report.choices] == expected
        assert [each.kept for each in report.choices if each.default] == [most]
        assert most & (most - 1)  # no power of two, so that it is one more

    def test_the_first_of_the_ranking_stay_in_floating_point(self, explored):
        (search,) = explored.searches
        for choice, graphs in zip(explored.int8, explored.made["int8"], strict=True):
            kept = {(each.role, each.layer.node) for each in search.ranked[: choice.kept]}
            assert len(kept) == choice.kept
            for role in BACKBONES:
                rounded = in_int8(graphs[role].graph)
                for layer in search.layers[role]:
                    assert (layer.node in rounded) == ((role, layer.node) not in kept)

    def test_none_is_made_twice(self, explored):
        assert len(explored.searches) == 1
        counts = {precision: len(made) for precision, made in explored.made.items()}
        assert counts == {"fp16": 1, "bf16": 1, "int8": len(explored.int8)}

    def test_the_default_is_what_precision_int8_makes(self, explored, make_precision, monkeypatch):
        """With the layers that it keeps here, and with none, which is all that the ViT needs."""
        made = make_precision("vit", "int8")
        assert not made.manifest.kept
        for role, graph in explored.made["int8"][0].items():
            assert onnx.load(made.graph_path(role)).graph == graph.graph
        never_enough(monkeypatch)
        (search,) = explored.searches
        assert explored.made["int8"][-1] == search.search().graphs

    def test_the_floats_are_what_their_precision_makes(self, explored, make_precision):
        for precision in ("fp16", "bf16"):
            (graphs,) = explored.made[precision]
            for role, graph in graphs.items():
                made = make_precision("vit", precision)
                assert onnx.load(made.graph_path(role)).graph == graph.graph

    def test_no_bundle_is_left(self, explored):
        assert names(explored.place) == [
            *("explore.json", "explore.md", "explore.png", "gl_vit.glass", "tmp")
        ]
        assert names(explored.place / "tmp") == []


class TestTheReport:
    def test_says_what_it_comes_from(self, explored, vit_bundle):
        report, sets = explored.report, split_images(explored.images, IMAGES)
        assert (report.bundle, report.bundle_digest) == (vit_bundle.name, vit_bundle.digest)
        assert (report.images, report.data) == (len(sets.calibration), sets.digest)
        assert report.compared_images == len(sets.held_out)
        assert report.judgements >= JUDGEMENTS
        assert report.noise > 0
        assert report.command.startswith("glass-quantize --explore --calibrate ")

    def test_compares_as_the_gate_does(self, explored, make_precision):
        """The same images, crops and verdicts as a bundle's own comparison."""
        report = explored.report
        for choice in report.choices[:3]:
            found = make_precision("vit", choice.precision).manifest.comparison
            assert (report.compared_images, report.judgements) == (found.images, found.judgements)
            assert choice.error == pytest.approx(found.yardstick.error, rel=0.05)
            assert choice.shift == pytest.approx(found.yardstick.shift, rel=0.05, abs=0.005)
            assert choice.flips == found.flips
            assert choice.engine in found.engine
            assert choice.simulated == ("simulating" in found.engine)
            assert choice.mean_change == pytest.approx(found.mean_change, rel=0.05)
            assert report.noise == pytest.approx(found.yardstick.noise, rel=0.01)

    def test_gives_the_sizes_of_the_bundles(self, explored, vit_bundle, make_precision):
        report = explored.report
        for size, bundle in (
            (report.size, vit_bundle),
            *((each.size, make_precision("vit", each.precision)) for each in report.choices[:3]),
        ):
            files = sum(path.stat().st_size for path in bundle.path.iterdir())
            assert size == pytest.approx(files, rel=0.01)

    def test_is_one_object_in_json_markdown_and_a_picture(self, explored):
        report, place = explored.report, explored.place
        assert report.to_json() == (place / "explore.json").read_bytes()
        assert report.to_markdown() == (place / "explore.md").read_text()
        assert report.to_png() == (place / "explore.png").read_bytes()

    def test_has_a_row_for_fp32_and_for_each_choice(self, explored):
        report = explored.report
        rows = report.table().splitlines()[2:]
        cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
        assert cells[0][:3] == ["FP32", "0", "0"]
        for choice, (what, error, shift, outcome, flips, _, speed, size, computed) in zip(
            report.choices, cells[1:], strict=True
        ):
            assert what.removesuffix(" ← default") == choice.label
            assert what.endswith(" ← default") == choice.default
            assert float(error) == pytest.approx(choice.error, abs=0.0005)
            assert float(shift) == pytest.approx(choice.shift, abs=0.0005)
            assert outcome == choice.outcome
            assert flips == f"{choice.flips} of {report.judgements}"
            assert float(speed.split()[0]) == pytest.approx(choice.speed.times, abs=0.005)
            assert float(size) == pytest.approx(choice.size / 1e6, abs=0.05)
            assert computed == choice.computed

    def test_is_on_the_screen_with_its_notes_beside(self, explored):
        report = explored.report
        assert explored.screen == (f"{report.summary()}\n\n{report.table()}\n\n{report.legend()}\n")
        noted = "".join(f"Note: {note}\n" for note in report.notes)
        assert explored.notes == f"bundle: gl_vit.glass\n{noted}"
        assert "only 8 images to calibrate on" in noted
        assert all(f"- {note}" in report.to_markdown() for note in report.notes)

    @pytest.mark.skipif(platform.machine() not in X86, reason="computes FP16 as it is")
    def test_says_where_a_type_is_not_computed_as_written(self, explored):
        fp16 = explored.report.choices[0]
        assert (fp16.precision, fp16.computed) == ("fp16", "fp32")
        assert fp16.simulated
        assert (
            f"{fp16.engine} does not compute fp16 as written on this machine: errors are a "
            "simulation's, and the speed says nothing of a GPU."
        ) in explored.report.notes

    def test_has_a_picture_with_the_zones_and_the_default(self, explored):
        with Image.open(explored.place / "explore.png") as image:
            assert (image.format, image.size) == ("PNG", (1200, 825))
            colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}
        assert {RED, *ZONES} <= colours

    def test_has_a_picture_whose_axes_hold_every_choice(self, explored):
        """Also what is far worse than what is refused, and slower than FP32."""
        bad = msgspec.structs.replace(
            explored.report.choices[-1], error=7.0, speed=Speed(0.3, 0.2, 0.4), default=True
        )
        others = [msgspec.structs.replace(each, default=False) for each in explored.report.choices]
        report = msgspec.structs.replace(explored.report, choices=(*others, bad))
        axes = Figure().subplots()
        picture._set_axes(axes, report)
        (left, right), (_, top) = axes.get_xlim(), axes.get_ylim()
        assert left < 0.2 < max(each.speed.high for each in report.choices) < right
        assert top > 7.0
        assert Image.open(io.BytesIO(report.to_png())).size == (1200, 825)

    def test_has_a_picture_also_if_no_int8_is_left(self, explored):
        floats = tuple(each for each in explored.report.choices if each.precision != "int8")
        assert floats
        report = msgspec.structs.replace(explored.report, choices=floats)
        assert Image.open(io.BytesIO(report.to_png())).size == (1200, 825)

    @pytest.mark.parametrize("apart", [0.0, 0.004, 0.02, 0.1])
    def test_has_a_picture_whose_labels_do_not_collide(self, apart, explored, monkeypatch):
        """However close together the choices are."""
        crowded = [
            msgspec.structs.replace(
                each, error=0.003 * (place % 3), speed=Speed(speed, speed, speed)
            )
            for place, each in enumerate(explored.report.choices)
            for speed in [1.0 + apart * place]
        ]
        places = []

        def noted(*arguments):
            places.append(write(*arguments))

        write = Labels.write
        monkeypatch.setattr(Labels, "write", noted)
        msgspec.structs.replace(explored.report, choices=tuple(crowded)).to_png()
        assert len(places) > 1
        for number, place in enumerate(places):
            assert not place.count_overlaps(places[:number])


def choice(error: float, shift: float) -> Choice:
    return Choice("int8", 0, False, error, shift, 0, 0.0, 0.0, Speed(1, 1, 1), 1, "", "int8", False)


@pytest.mark.parametrize(
    ("error", "shift", "outcome"),
    [
        *((0.25, 0.1, "good"), (0.25, -0.1, "good"), (0.26, 0.0, "fair"), (0.1, 0.11, "fair")),
        *((0.2, -0.11, "fair"), (0.5, 0.0, "fair"), (0.51, 0.0, "refused")),
    ],
)
def test_the_outcome_is_the_gates(error, shift, outcome):
    assert choice(error, shift).outcome == outcome
    yardstick = Yardstick(1.0, "draws", 0.1, error, shift)
    comparison = Comparison("", "int8", 1, 1, 0, 0.0, 0.0, 1.0, yardstick)
    assert (loss_note(comparison) is None) == (outcome == "good")
    if outcome == "refused":
        with pytest.raises(AccuracyError):
            check_comparison(comparison)
    else:
        check_comparison(comparison)


class Twice:
    """An engine that judges everything twice."""

    def __init__(self, engine):
        self.engine = engine

    def judge(self, views):
        self.engine.judge(views)
        return self.engine.judge(views)


def test_speeds_are_ratios_to_the_first(vit_bundle):
    engine = open_on_cpu(vit_bundle)
    first, same, twice = measure_speeds(vit_bundle, [engine, engine, Twice(engine)])
    assert first == Speed(1.0, 1.0, 1.0)
    assert same.times == pytest.approx(1.0, abs=0.25)
    assert twice.times == pytest.approx(0.5, abs=0.15)
    assert twice.low <= twice.times <= twice.high


def overflowing(model: ModelProto) -> ModelProto:
    """Spoil a graph's last weights so that products overflow in FP16, but not in FP32."""
    low = [each for each in model.graph.initializer if numpy_helper.to_array(each).ndim == 2]
    values = numpy_helper.to_array(low[-1])
    low[-1].CopyFrom(numpy_helper.from_array(np.full_like(values, 6e4), low[-1].name))
    return model


def test_what_does_not_run_here_or_overflows_is_left_out_with_a_note(
    vit_bundle, calibration_images, monkeypatch
):
    """Without OpenVINO, which alone computes BF16 on a CPU."""

    def spoiled(lowered):
        return Made({role: overflowing(graph) for role, graph in lowered.graphs.items()}, {})

    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(module, "in_float", spoiled)
    sets, options = split_images(calibration_images, 4), CalibrationOptions(budget=0.0)
    report = explore(vit_bundle, sets, options, 1, command="")
    assert [(each.label, each.default) for each in report.choices] == [
        ("INT8, no layers kept", True)
    ]
    assert report.choices[0].engine.startswith("onnxruntime ")
    _, bf16, fp16, *_ = report.notes
    assert bf16.startswith("BF16 is left out: ONNX Runtime cannot compute BF16 on the CPU: use")
    assert fp16 == "FP16 is left out: values overflow in FP16: 2 of 2 verdicts are not numbers."


class TestBadInput:
    """One sentence, exit code 2, and nothing is written."""

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["--precision", "int8"], "say what to make, one of the three: --precision fp16, bf16"),
            (["--layers"], "say what to make, one of the three"),
            (["--accept-loss"], "--accept-loss means nothing with --explore: leave it out."),
            (["--int8-keep", "4"], "--int8-keep means nothing with --explore: leave it out."),
            ([], "--explore measures on images of the kind that will be judged: name their"),
            (["--calibrate", "nowhere"], "'nowhere' does not exist"),
            (["--calibrate", "one"], "at least 5 are needed"),
            (["--calibrate", "one", "--judgements", "0"], "judgements must be at least 1, not 0"),
            (["--calibrate", "one", "--int8-budget", "2"], "must lie between 0 and 1"),
            (["-o", "fast.glass"], "fast.glass is named like a bundle, and --explore makes a rep"),
            (["-o", "explore.xml"], "a name that ends in .json, .md or .png"),
            (["-o", "missing/a.json"], "there is no folder missing"),
            (["-o", "old.md"], "old.md exists already: choose another name, or --force"),
        ],
    )
    def test_of_the_command_line(self, arguments, sentence, tmp_path, vit_bundle):
        (tmp_path / "gl_vit.glass").symlink_to(vit_bundle.path)
        (tmp_path / "old.md").write_text("precious")
        (tmp_path / "one").mkdir()
        (tmp_path / "one" / "cat.jpg").symlink_to(EXAMPLES / "real" / "cat.jpg")
        before = names(tmp_path)
        assert sentence in refusal(run(tmp_path, "--explore", *arguments))
        assert names(tmp_path) == before
        assert (tmp_path / "old.md").read_text() == "precious"

    def test_a_bundle_that_is_not_fp32(self, make_precision, calibration_images, tmp_path):
        bundle = make_precision("vit", "int8")
        done = run(tmp_path, bundle.path, "--explore", "--calibrate", calibration_images)
        assert "is int8; name the FP32 bundle it came from." in refusal(done)
        sets, options = split_images(calibration_images, 4), CalibrationOptions()
        with pytest.raises(InputError, match="is int8"):
            explore(bundle, sets, options, 1, command="")

    def test_a_picture_without_matplotlib(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        arguments = ("--explore", "--calibrate", EXAMPLES, "-o", "explore.png")
        sentence = refusal(run(tmp_path, *arguments))
        assert "a plot needs matplotlib, which is not installed: pip install 'glass-ed" in sentence

    def test_no_room_for_temporary_files(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            with (
                pytest.raises(OutputError, match="temporary files cannot be written: File too la"),
                scratch_folder() as folder,
            ):
                (folder / "global.onnx").write_bytes(bytes(2000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert names(tmp_path) == []


INTERRUPTED = """
import os, sys
from contextlib import contextmanager
from threading import Timer
from glass_edge.calibration.commands import quantize, reports
from glass_edge.runtime.commands.progress import on_console

number, phase = int(sys.argv.pop(1)), sys.argv.pop(1)

@contextmanager
def interrupted(label):
    with on_console(label) as report:
        if label == phase:
            Timer(0.02, os.kill, (os.getpid(), number)).start()
        yield report

reports.on_console = interrupted
quantize.main()
"""
"""Sends itself a signal while it is busy with the phase of this name."""
PHASES = ("opening FP16", "opening INT8, 1 layer kept", "comparing with FP32", "measuring speeds")
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.mark.parametrize(
    ("phase", "number", "code"),
    slow_but(
        [(PHASES[0], *SIGNALS[1])], [(phase, *signals) for phase in PHASES for signals in SIGNALS]
    ),
)
def test_an_interruption_leaves_nothing_behind(
    phase, number, code, vit_bundle, calibration_images, tmp_path
):
    for name in ("tmp", "cache"):
        (tmp_path / name).mkdir()
    command = [sys.executable, "-c", INTERRUPTED, str(int(number)), phase, vit_bundle.path]
    options = ["--calibration-images", "4", "--int8-budget", "0.1", "--judgements", "8"]
    done = subprocess.run(
        [*command, "--explore", "--calibrate", calibration_images, *options, "-o", "a.json"],
        cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"GLASS_CACHE": "cache", "TMPDIR": str(tmp_path / "tmp")},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert done.stderr.endswith("Error: interrupted.\n")
    assert done.stdout == ""
    assert names(tmp_path) == ["cache", "tmp"]
    assert names(tmp_path / "tmp") == []


def test_help_has_an_example(tmp_path):
    done = run(tmp_path, "--help")
    assert (
        "glass-quantize gl_vit.glass --explore --calibrate photographs/ -o explore" in done.stdout
    )
