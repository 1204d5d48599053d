"""glass-bench int8: our INT8 beside other quantisers' and beside its own parts, in one run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import msgspec
import numpy as np
import onnx
import pytest
from conftest import call, refusal, slow
from glass_edge.benchmarks.int8 import accuracy_control
from glass_edge.benchmarks.int8.ablation import MeanInputs, Part, gptq
from glass_edge.benchmarks.int8.accuracy_control import Validation, trial_of
from glass_edge.benchmarks.int8.choices import GROUPS
from glass_edge.benchmarks.int8.equalisation import equalise
from glass_edge.benchmarks.int8.makers import Given, Maker
from glass_edge.benchmarks.int8.measure import measure_int8
from glass_edge.benchmarks.int8.registry import makers_named, makers_of
from glass_edge.benchmarks.int8.report import Int8Report
from glass_edge.benchmarks.int8.rounded import Products, count_products
from glass_edge.calibration.errors import CalibrationError
from glass_edge.calibration.images import split_images
from glass_edge.calibration.int8 import observe
from glass_edge.calibration.int8.fitting import fit_weights
from glass_edge.calibration.int8.grid import Grids
from glass_edge.calibration.int8.layers import find_layers, form_of
from glass_edge.calibration.int8.observe import calibration_views
from glass_edge.calibration.int8.products import Product, find_products
from glass_edge.calibration.int8.ranges import activations_of, collect_ranges
from glass_edge.calibration.int8.search import Int8Search
from glass_edge.calibration.int8.signs import never_negative
from glass_edge.calibration.judging.graphs import open_session
from glass_edge.calibration.judging.trial import Trial
from glass_edge.calibration.making.variants import Made
from glass_edge.calibration.options import CalibrationOptions
from glass_edge.runtime.machine.progress import silent
from networks import BACKBONES
from onnx import TensorProto, helper, numpy_helper

run = partial(call, "glass-bench")
IMAGES = 4
MADE = ("onnxruntime-minmax", "nearest", "gptq-bias")
EQUALISED = "equalised-nearest-bias"


@pytest.fixture(scope="module")
def report(vit_bundle, calibration_images, tmp_path_factory) -> tuple[Int8Report, str, str]:
    place = tmp_path_factory.mktemp("int8")
    done = run(place, "int8", vit_bundle.path, "--calibrate", calibration_images,
               "--calibration-images", IMAGES, "--judgements", "1",
               "--makers", ",".join([EQUALISED, *reversed(MADE)]),
               "-o", "report.json", "-o", "report.md", "-o", "report.png")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (place / "report.png").read_bytes().startswith(b"\x89PNG")
    content = (place / "report.json").read_bytes()
    parsed = msgspec.json.decode(content, type=Int8Report)
    return parsed, done.stdout, (place / "report.md").read_text()


@pytest.fixture(scope="module")
def given(export_family, calibration_images) -> Callable[[str], Given]:
    """What makers are given of a family's small bundle."""
    sets = split_images(calibration_images, IMAGES)

    @cache
    def make(family: str) -> Given:
        bundle = export_family(family)
        views = calibration_views(bundle, sets, silent)
        return Given(bundle, sets, views, CalibrationOptions(IMAGES), silent)

    return make


class TestReport:
    def test_json_and_markdown_come_from_one_object(self, report):
        parsed, shown, written = report
        assert parsed.to_markdown() == shown == written
        assert parsed.schema == 1
        assert parsed.command.startswith("glass-bench int8 ")
        assert (parsed.calibrated_on, parsed.judged_on) == (IMAGES, 1)

    def test_makers_come_in_one_order_whatever_was_asked_for_first(self, report):
        assert tuple(each.name for each in report[0].results) == MADE

    def test_all_meet_the_same_fp32(self, report):
        seen = [each.comparison for each in report[0].results]
        assert len({(x.engine, x.images, x.judgements, x.yardstick.noise) for x in seen}) == 1
        assert all(each.speed > 0 for each in seen)

    def test_our_parts_leave_alone_what_reads_the_pixels_and_the_library_does_not(self, report):
        left = {each.name: each.products - each.in_int8 for each in report[0].results}
        assert left == {"onnxruntime-minmax": 0, "nearest": 2, "gptq-bias": 2}

    def test_what_cannot_be_made_is_a_row_with_its_reason(self, report):
        (refused,) = report[0].refusals
        assert refused.name == EQUALISED
        (row,) = (line for line in report[1].splitlines() if line.startswith(f"| {EQUALISED}"))
        assert "refused: the global graph has no two convolutions with nothing but a ReLU" in row

    def test_it_says_how_all_was_made(self, report):
        tables, _, how = report[1].partition("## How they were made")
        for each in report[0].results:
            assert f"| {each.name} " in tables
            assert f"- {each.name}: {each.how}." in how


class TestMakers:
    @pytest.mark.parametrize("group", [group for group in GROUPS if group != "nncf"])
    def test_every_name_is_a_maker(self, group):
        assert tuple(maker.name for maker in makers_of(group)) == tuple(GROUPS[group])

    @pytest.mark.slow
    def test_every_name_of_nncf_is_a_maker(self):
        assert tuple(maker.name for maker in makers_of("nncf")) == tuple(GROUPS["nncf"])

    @pytest.mark.slow
    def test_graphs_that_do_not_run_well_are_a_row_with_the_reason(self, given):
        ours = given("vit")
        found = measured(ours, [Maker("nearest", "", overflowing), *makers_named(["gptq"])])
        assert [each.name for each in found.results] == ["gptq"]
        assert [(each.name, each.reason) for each in found.refusals] == [
            ("nearest", "its graphs give numbers that are not finite.")
        ]

    def test_without_a_single_maker_that_works_there_is_no_report(self, given):
        with pytest.raises(CalibrationError, match="no maker gave INT8 graphs that run here; the "):
            measured(given("vit"), [Maker("nearest", "", overflowing)])

    def test_every_layer_in_int8_is_not_made_twice(self, given):
        """Where the default keeps no layer, it is the same."""
        ours = given("vit")

        def keeping_none(given: Given) -> Made:
            return Made({role: given.model(role) for role in BACKBONES}, {}, rest="fp32")

        def never(given: Given) -> Made:
            raise AssertionError("it was made")

        makers = [Maker("glass-quantize", "", keeping_none), Maker("glass-quantize-all", "", never)]
        assert [each.name for each in measured(ours, makers).results] == ["glass-quantize"]


def measured(given: Given, makers: list[Maker]) -> Int8Report:
    return measure_int8(given.bundle, given.sets, given.sets.held_out, makers,
                        options=given.options, judgements=1, command="")  # fmt: skip


def overflowing(given: Given) -> Made:
    """Give graphs whose weights are no numbers."""
    graphs = {role: given.model(role) for role in BACKBONES}
    for model in graphs.values():
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.dtype == np.float32 and values.ndim > 1:
                tensor.CopyFrom(numpy_helper.from_array(values * np.nan, tensor.name))
    return Made(graphs, {}, rest="fp32")


class TestAblation:
    @pytest.mark.parametrize("family", ["vit", slow("timm")])
    def test_with_all_its_parts_it_is_the_product(self, family, given):
        """Where no channels can be scaled, and where they can."""
        self.check_product(family, given)

    def test_so_it_is_for_a_heavy_network_which_looks_at_fewer_views(
        self, given, monkeypatch, tmp_path
    ):
        monkeypatch.setenv("GLASS_CACHE", str(tmp_path))
        monkeypatch.setattr(observe, "_HEAVY", 0.0)
        self.check_product("vit", given)

    def check_product(self, family, given):
        ours = given(family)
        product = Int8Search(ours.bundle, ours.sets, CalibrationOptions(IMAGES, keep=0))
        (maker,) = makers_named(["channels-gptq-bias"])
        assert maker.make(ours).graphs == product.search().graphs

    def test_biases_of_the_nearest_are_corrected_as_the_product_corrects_its_own(self, given):
        """A small ViT has so few tokens that the means of both are over all of them."""
        ours = given("vit")
        part, products, grids = to_be_rounded(ours)
        fitted = fit_weights(part.model, "global", products, grids, ours.views)
        means = MeanInputs(part, products, grids)
        for each in products:
            if each.bias is not None:
                found = each.bias + means.missed(each, fitted[each.node])
                assert found == pytest.approx(fitted[each.node].bias, abs=1e-5), each.node

    def test_without_correction_every_product_keeps_the_bias_that_it_is_known_by(self, given):
        """A convolution that has none is known by zeros, which OpenVINO needs after it."""
        part, products, grids = to_be_rounded(given("vit"))
        kept = [replace(each, bias=0 * each.bias) for each in products if each.bias is not None]
        fitted = gptq(part, kept, grids, corrected=False)
        assert not any(fitted[each.node].bias.any() for each in kept)

    @pytest.mark.parametrize("rounding", ["nearest", "gptq"])
    def test_only_correction_changes_biases(self, rounding, given):
        """So a row and the one with bias correction differ in nothing else."""
        ours = given("vit")
        before = ours.model("local")
        plain, corrected = (
            maker.make(ours).graphs["local"]
            for maker in makers_named([rounding, f"{rounding}-bias"])
        )
        assert biases(before, plain) == biases(before, before)
        assert biases(before, corrected) != biases(before, before)


def to_be_rounded(ours: Given) -> tuple[Part, list[Product], Grids]:
    """The global backbone, its products, and the grids of their inputs."""
    model = ours.model("global")
    layers = find_layers(model.graph, ours.bundle.manifest.backbone, form_of("fp32"))
    activations = activations_of(layers, never_negative(model.graph))
    ranges = collect_ranges(ours.bundle, "global", model, activations, ours.views, ours.sets)
    return Part(ours, "global", model), find_products(model.graph, layers), ranges.grids


def biases(names_of: onnx.ModelProto, model: onnx.ModelProto) -> dict[str, list[float]]:
    """Return what is added after products, by the nodes that add it."""
    adders = {
        node.name: node.op_type for node in names_of.graph.node if node.op_type in ("Add", "Gemm")
    }
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    return {
        node.name: numpy_helper.to_array(tensors[node.input[-1]]).ravel().tolist()
        for node in model.graph.node
        if node.name in adders and node.input[-1] in tensors
    }


def outputs(model: onnx.ModelProto, views: np.ndarray) -> np.ndarray:
    session = open_session(model.SerializeToString())
    found: np.ndarray = session.run(None, {session.get_inputs()[0].name: views})[0]
    return found


def convolution(name: str, source: str, shape: tuple[int, ...], groups: int = 1):
    """A convolution whose channels have weights of very different sizes, and its tensors."""
    random = np.random.default_rng(len(name))
    sizes = np.exp(random.normal(size=(shape[0], 1, 1, 1)))
    weight = (random.normal(size=shape) * sizes).astype(np.float32)
    bias = random.normal(size=shape[0]).astype(np.float32)
    tensors = [
        numpy_helper.from_array(weight, f"{name}_w"),
        numpy_helper.from_array(bias, f"{name}_b"),
    ]
    inputs = [source, f"{name}_w", f"{name}_b"]
    return helper.make_node("Conv", inputs, [name], f"n_{name}", group=groups), tensors


@pytest.fixture
def depthwise() -> onnx.ModelProto:
    """An inverted residual as in EfficientNet-lite: expand, ReLU6, depthwise, ReLU6, project."""
    first, first_tensors = convolution("expand", "x", (8, 3, 1, 1))
    second, second_tensors = convolution("depth", "limited", (8, 1, 3, 3), groups=8)
    third, third_tensors = convolution("project", "again", (4, 8, 1, 1))
    bounds = [
        numpy_helper.from_array(np.array(value, np.float32), name)
        for name, value in (("zero", 0), ("six", 6))
    ]
    nodes = [
        first,
        helper.make_node("Clip", ["expand", "zero", "six"], ["limited"], "clip"),
        second,
        helper.make_node("Clip", ["depth", "zero", "six"], ["again"], "clip_again"),
        third,
    ]
    shape = ["n", 3, 8, 8]
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("project", TensorProto.FLOAT, ["n", 4, 6, 6])],
        [*first_tensors, *second_tensors, *third_tensors, *bounds],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


class TestEqualisation:
    def test_outputs_stay_as_they_are_where_limits_bind(self, depthwise):
        equalised, pairs = equalise(depthwise)
        assert pairs == 2
        views = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)
        open_to_view = onnx.ModelProto.FromString(depthwise.SerializeToString())
        open_to_view.graph.output.insert(
            0, helper.make_tensor_value_info("limited", TensorProto.FLOAT, None)
        )
        assert (outputs(open_to_view, views) == 6).mean() > 0.05
        expected = outputs(depthwise, views)
        assert outputs(equalised, views) == pytest.approx(expected, rel=1e-4, abs=1e-4)

    def test_a_channel_weighs_the_same_on_both_sides(self, depthwise):
        weights = {
            node.name: weight_of(equalise(depthwise)[0], node.name)
            for node in depthwise.graph.node
            if node.op_type == "Conv"
        }
        expand = np.abs(weights["n_expand"]).max(axis=(1, 2, 3))
        depth = np.abs(weights["n_depth"]).max(axis=(1, 2, 3))
        project = np.abs(weights["n_project"]).max(axis=(0, 2, 3))
        assert expand == pytest.approx(depth, rel=0.05)
        assert depth == pytest.approx(project, rel=0.05)

    def test_what_was_never_negative_is_still_known_to_be(self, depthwise):
        assert never_negative(equalise(depthwise)[0].graph) >= {"limited", "again"}

    @pytest.mark.parametrize(
        ("family", "some"), [slow("resnet", True), slow("timm", True), ("vit", False)]
    )
    def test_backbones_in_fp32_compute_the_same(self, family, some, given):
        ours = given(family)
        for role in BACKBONES:
            equalised, pairs = equalise(ours.model(role))
            assert bool(pairs) == some
            views = ours.views.of(role)[:2]
            expected = outputs(ours.model(role), views)
            error = np.abs(outputs(equalised, views) - expected).max()
            assert error < 1e-5 * np.abs(expected).max()

    def test_a_tensor_that_others_read_is_left_alone(self, depthwise):
        depthwise.graph.output.append(
            helper.make_tensor_value_info("limited", TensorProto.FLOAT, None)
        )
        assert equalise(depthwise)[1] == 1

    def test_a_limit_below_zero_is_left_alone(self, depthwise):
        (zero,) = (each for each in depthwise.graph.initializer if each.name == "zero")
        zero.CopyFrom(numpy_helper.from_array(np.array(-1, np.float32), "zero"))
        assert equalise(depthwise)[1] == 0


def weight_of(model: onnx.ModelProto, node: str) -> np.ndarray:
    (name,) = (each.input[1] for each in model.graph.node if each.name == node)
    (tensor,) = (each for each in model.graph.initializer if each.name == name)
    return numpy_helper.to_array(tensor)


class TestProducts:
    def test_those_whose_factors_are_rounded_are_counted(self, int8_parts):
        parts = int8_parts("vit", "local")
        products = [layer for layer in parts.layers if layer.kind != "attention"]
        attention = len(parts.layers) - len(products)
        total = 1 + len(products) + 2 * attention  # with what reads the pixels
        assert count_products(parts.model.graph) == Products(total, 0)
        assert count_products(parts.quantised().graph) == Products(total, total - 1)
        without_first = parts.quantised([layer for layer in parts.layers if layer != products[0]])
        assert count_products(without_first.graph) == Products(total, total - 2)


@pytest.fixture(scope="module")
def trial(given) -> Trial:
    return trial_of(given("vit"))


class TestAccuracyControl:
    """NNCF's search asks our validation; see the slow test for both together."""

    def test_fp32_agrees_with_itself(self, trial, given):
        model = given("vit").model("local")
        agreement, each = Validation(trial, "local", model)(model, range(trial.images))
        assert agreement == 1
        assert each == [1.0] * trial.images

    def test_the_error_of_int8_is_that_of_the_trial(self, trial, given):
        """Within what a draw differs from others: the trial judges several."""
        ours = given("vit")
        changed = makers_named(["nearest"])[0].make(ours).graphs["local"]
        validation = Validation(trial, "local", ours.model("local"))
        agreement, each = validation(changed, range(trial.images))
        assert 1 - agreement == pytest.approx(trial.deviation({"local": changed}).error, rel=0.4)
        assert 1 - agreement == pytest.approx(np.sqrt(np.mean((1 - np.array(each)) ** 2)))
        assert validation(changed, [1])[1] == [each[1]]

    def test_when_the_time_is_up_all_is_well(self, trial, given, monkeypatch):
        monkeypatch.setattr(accuracy_control, "LIMIT", 0.0)
        model = given("vit").model("local")
        validation = Validation(trial, "local", model)
        assert validation(onnx.ModelProto(), [0, 2]) == (1.0, [1.0, 1.0])


@pytest.mark.slow
def test_nncf_quantises_in_silence(vit_bundle, calibration_images, tmp_path, capfd):
    """But for its accurate bias correction, which NNCF 3.4 cannot do for attention in ONNX."""
    pytest.importorskip("nncf")
    done = run(tmp_path, "int8", vit_bundle.path, "--calibrate", calibration_images,
               "--calibration-images", IMAGES, "--judgements", "1",
               "--makers", "nncf", "-o", "report.json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    content = (tmp_path / "report.json").read_bytes()
    parsed = msgspec.json.decode(content, type=Int8Report)
    assert done.stdout == parsed.to_markdown()
    assert "nncf" not in (capfd.readouterr().err + done.stderr).lower()
    made = {each.name for each in parsed.results}
    assert made >= {"nncf-performance", "nncf-mixed", "nncf-accuracy-control"}
    assert made | {each.name for each in parsed.refusals} == set(GROUPS["nncf"])
    assert all(each.reason.startswith("NNCF fails on the ") for each in parsed.refusals)
    assert "nncf" in parsed.environment.libraries


class TestBadInput:
    def refused(self, tmp_path, *arguments: object) -> str:
        return refusal(run(tmp_path, "int8", *arguments))

    @pytest.mark.parametrize(
        ("makers", "sentence"),
        [
            ("nncf-fast", "there is no maker 'nncf-fast'. Did you mean"),
            ("abacus", "there is no maker 'abacus'. There are ours, nncf, onnxruntime,"),
            ("", "there is no maker ''."),
        ],
    )
    def test_an_unknown_maker(self, makers, sentence, vit_bundle, calibration_images, tmp_path):
        options = ("--calibrate", calibration_images, "--makers", makers)
        assert sentence in self.refused(tmp_path, vit_bundle.path, *options)

    def test_nncf_that_is_not_installed(
        self, vit_bundle, calibration_images, tmp_path, monkeypatch
    ):
        monkeypatch.setitem(sys.modules, "nncf", None)
        sentence = self.refused(tmp_path, vit_bundle.path, "--calibrate", calibration_images)
        assert "comparing with NNCF needs nncf, which is not installed: pip install" in sentence
        assert "'glass-edge[nncf]'" in sentence

    def test_images_that_are_calibrated_on(self, vit_bundle, calibration_images, tmp_path):
        options = ("--calibrate", calibration_images, "--evaluate", calibration_images)
        sentence = self.refused(tmp_path, vit_bundle.path, *options, "--makers", "nearest")
        assert "is calibrated on, and images to judge must be others" in sentence

    def test_a_copy_of_an_image_that_is_calibrated_on(
        self, vit_bundle, calibration_images, tmp_path
    ):
        used = split_images(calibration_images, IMAGES).calibration[0]
        (tmp_path / "others").mkdir()
        shutil.copy(used, tmp_path / "others" / "copy.jpg")
        options = ("--calibrate", calibration_images, "--calibration-images", IMAGES)
        sentence = self.refused(
            tmp_path, vit_bundle.path, *options, "--evaluate", "others", "--makers", "nearest"
        )
        assert "copy.jpg is calibrated on" in sentence

    def test_a_bundle_that_is_not_fp32(self, make_precision, calibration_images, tmp_path):
        bundle = make_precision("vit", "bf16").path
        options = ("--calibrate", calibration_images, "--makers", "nearest")
        sentence = self.refused(tmp_path, bundle, *options)
        assert "is bf16; name the FP32 bundle it came from" in sentence

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ([], "Missing option '--calibrate'"),
            (["--calibrate", "missing"], "'missing' does not exist"),
            (["--calibrate", ".", "-o", "report.xml"], "cannot tell the format of report.xml"),
            (["--calibrate", ".", "--judgements", "0"], "'--judgements'"),
            (["--calibrate", ".", "--makers", "nearest"], "the folder . holds no image"),
        ],
    )
    def test_wrong_usage(self, options, sentence, vit_bundle, tmp_path):
        assert sentence in self.refused(tmp_path, vit_bundle.path, *options)
