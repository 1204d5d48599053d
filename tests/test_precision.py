"""Low-precision bundles: what the graphs compute in, and that verdicts survive it."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import FAMILIES, JUDGEMENTS, slow, slow_but
from glass_edge.calibration.errors import AccuracyError
from glass_edge.calibration.floats import search as lowering
from glass_edge.calibration.images import split_images
from glass_edge.calibration.int8.grid import Grid
from glass_edge.calibration.int8.layers import ATTENTION, find_layers, form_of
from glass_edge.calibration.int8.quantise import quantise
from glass_edge.calibration.int8.signs import never_negative
from glass_edge.calibration.judging.comparison import compare_bundles, open_on_cpu
from glass_edge.calibration.judging.gate import check_comparison
from glass_edge.calibration.judging.trial import Trial
from glass_edge.calibration.judging.yardstick import ERROR_REFUSED, deviation, draw_noise
from glass_edge.calibration.making import variants
from glass_edge.calibration.making.variants import VariantOptions, make_variant
from glass_edge.calibration.options import CalibrationOptions
from glass_edge.export.exporter import ExportOptions, export_bundle
from glass_edge.runtime.bundle.streams import Role
from glass_edge.runtime.engines.base import X86
from glass_edge.runtime.images.decode import decode
from glass_edge.runtime.views.resample import resample
from networks import BACKBONES, ROLES, random_glass
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

from glass_edge import Bundle, Detector, DetectorOptions, EngineError

LOW = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
PRODUCTS = ("Conv", "MatMul", "Gemm")
INTEGER_PRODUCTS = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat")
SUMMING = ("LayerNormalization", "Softmax", "ReduceMean", "GlobalAveragePool", "ReduceSum")

# What one family shows of each precision, and what only convolutions show.
QUICK = (("vit", "fp16"), ("vit", "bf16"), ("vit", "int8"), ("timm", "int8"))


def matrix(*precisions: str) -> pytest.MarkDecorator:
    """Run a test on each family in each precision; what is not quick is slow."""
    every = [(family, precision) for family in FAMILIES for precision in precisions]
    return pytest.mark.parametrize(("family", "precision"), slow_but(QUICK, every))


def families(precision: str) -> pytest.MarkDecorator:
    """Run a test on each family in one precision; what is not quick is slow."""
    quick = [family for family, quick_precision in QUICK if quick_precision == precision]
    return pytest.mark.parametrize("family", slow_but(quick, FAMILIES))


def shown_to(family: str, photographs: list[Path]) -> list[Path]:
    """Leave out images smaller than a crop for the random MobileNet.

    Its features hardly vary, so that its classifier magnifies them; and INT8's ranges are those of
    photographs, which black padding around a few pixels is unlike.
    """
    return photographs[2:] if family == "timm" else photographs


def graph(bundle: Bundle, role: Role) -> GraphProto:
    model = onnx.load(bundle.graph_path(role))
    return onnx.shape_inference.infer_shapes(model, strict_mode=True).graph


def optimised_nodes(path: Path, scratch: Path) -> Counter[str]:
    """Count the operators of what ONNX Runtime's CPU really runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(scratch)
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(scratch).graph.node)


def types(of: GraphProto) -> dict[str, int]:
    infos = (*of.input, *of.output, *of.value_info)
    found = {info.name: info.type.tensor_type.elem_type for info in infos}
    return found | {tensor.name: tensor.data_type for tensor in of.initializer}


def margins(bundle: Bundle, engine: str, images: list[Path], seed: int) -> np.ndarray:
    """Return the logit of fake minus that of real, one for each image."""
    detector = Detector(bundle, DetectorOptions(engine=engine, seed=seed))
    fake = bundle.manifest.fake_class
    return np.array(
        [
            2 * verdict.logits[fake] - sum(verdict.logits.values())
            for verdict in detector.detect(images)
        ]
    )


@pytest.fixture(scope="module")
def photographs(photographs: list[Path], calibration_images: Path) -> list[Path]:
    """Those of many shapes show one scene; scores of these others spread.

    So whatever ignores its input and gives the mean score is far from FP32's.
    """
    return [*photographs, *sorted(calibration_images.iterdir())]


@matrix("fp16", "bf16", "int8")
class TestEveryLowPrecision:
    def test_the_bundle_says_what_it_is_and_what_it_costs(self, family, precision, make_precision):
        manifest = make_precision(family, precision).manifest
        assert manifest.precision == precision
        assert manifest.parity is not None
        assert manifest.comparison is not None
        assert manifest.comparison.judgements >= JUDGEMENTS
        check_comparison(manifest.comparison)
        assert manifest.comparison.mean_change <= manifest.comparison.largest_change
        assert manifest.comparison.speed > 0

    def test_inputs_outputs_and_aggregator_are_those_of_fp32(
        self, family, precision, make_precision
    ):
        low, full = make_precision(family, precision), make_precision(family, "fp32")
        assert low.manifest.aggregator == full.manifest.aggregator
        for name, stream in low.manifest.streams.items():
            assert stream.views == full.manifest.streams[name].views
        for role in ROLES:
            ours, theirs = (onnx.load(b.graph_path(role)).graph for b in (low, full))
            for name in ("input", "output"):
                assert [(t.name, t.type.tensor_type.elem_type) for t in getattr(ours, name)] == [
                    (t.name, t.type.tensor_type.elem_type) for t in getattr(theirs, name)
                ]

    def test_the_verdicts_are_fp32s_on_openvino(
        self, family, precision, make_precision, photographs
    ):
        photographs = shown_to(family, photographs)
        options = DetectorOptions(engine="openvino")
        low = Detector(make_precision(family, precision), options).detect(photographs)
        full = Detector(make_precision(family, "fp32"), options).detect(photographs)
        for ours, theirs in zip(low, full, strict=True):
            assert ours.score == pytest.approx(theirs.score, abs=0.03)
            assert ours.crops[0].top == theirs.crops[0].top


@matrix("fp16", "bf16")
class TestFloating:
    def test_products_compute_in_the_low_type_but_for_those_named(
        self, family, precision, make_precision
    ):
        bundle = make_precision(family, precision)
        for role in BACKBONES:
            found = graph(bundle, role)
            kind = types(found)
            kept = bundle.manifest.kept.get(role, ())
            for node in found.node:
                if node.op_type in PRODUCTS:
                    wanted = TensorProto.FLOAT if node.name in kept else LOW[precision]
                    assert {kind[name] for name in (*node.input, *node.output)} == {wanted}

    def test_what_sums_many_values_stays_in_fp32(self, family, precision, make_precision):
        for role in BACKBONES:
            found = graph(make_precision(family, precision), role)
            kind = types(found)
            summing = [node for node in found.node if node.op_type in SUMMING]
            assert summing
            for node in summing:
                assert kind[node.input[0]] == kind[node.output[0]] == TensorProto.FLOAT

    def test_casts_stand_only_where_types_meet(self, family, precision, make_precision):
        for role in BACKBONES:
            found = graph(make_precision(family, precision), role)
            kind = types(found)
            made = {name for node in found.node if node.op_type == "Cast" for name in node.output}
            for node in found.node:
                if node.op_type == "Cast":
                    assert kind[node.input[0]] != kind[node.output[0]]
                    assert node.input[0] not in made or node.input[0] == "_to_copy"

    def test_the_weights_take_half_the_room(self, family, precision, make_precision):
        bundle = make_precision(family, precision)
        found = graph(bundle, "local")
        stored = {tensor.name: tensor for tensor in found.initializer}
        kept = bundle.manifest.kept.get("local", ())
        for node in found.node:
            if node.op_type in PRODUCTS and node.name not in kept:
                for name in stored.keys() & set(node.input):
                    weights = stored[name]
                    assert len(weights.raw_data) == 2 * np.prod(weights.dims)


class TestFp16:
    @families("fp16")
    def test_onnx_runtime_agrees_and_says_what_it_computes_in(
        self, family, make_precision, photographs
    ):
        bundle = make_precision(family, "fp16")
        ours = Detector(bundle, DetectorOptions(engine="onnxruntime")).detect(photographs)
        theirs = Detector(bundle, DetectorOptions(engine="openvino")).detect(photographs)
        assert [v.score for v in ours] == pytest.approx([v.score for v in theirs], abs=2e-3)
        assert {v.precision for v in (*ours, *theirs)} <= {"fp16", "fp32"}

    @pytest.fixture
    def overflowing(self, shared) -> Bundle:
        """A network with values of a hundred thousand and more in attention, divided away after."""
        model = random_glass("vit")
        for backbone in (model.global_model, model.local_model):
            attention = backbone.encoder.layers[0].self_attention
            width = attention.embed_dim
            with torch.no_grad():
                attention.in_proj_weight[2 * width :] *= 1e6
                attention.in_proj_bias[2 * width :] *= 1e6
                attention.out_proj.weight /= 1e6

        def make(place: Path) -> None:
            checkpoint = place.parent / "gl_vit.pt"
            torch.save(model.state_dict(), checkpoint)
            export_bundle(checkpoint, place, ExportOptions())

        return Bundle.open(shared.make("overflowing.glass", make))

    options = VariantOptions("fp16", images=None, judgements=JUDGEMENTS)

    def test_what_overflows_stays_in_fp32(self, overflowing, tmp_path):
        make_variant(overflowing, tmp_path, self.options)
        bundle = Bundle.open(tmp_path)
        kept = bundle.manifest.kept
        comparison = bundle.manifest.comparison
        assert kept["global"]
        assert kept["local"]
        assert comparison is not None
        assert comparison.largest_change < 0.005
        still_low = Counter(
            types(graph(bundle, "local"))[n.output[0]]
            for n in graph(bundle, "local").node
            if n.op_type in PRODUCTS
        )
        assert still_low[TensorProto.FLOAT16] > still_low[TensorProto.FLOAT] > 0

    @pytest.mark.slow
    def test_what_overflows_unforeseen_is_found_by_trying(self, overflowing, tmp_path, monkeypatch):
        """No engine here computes in FP16, so that only the simulation can show it."""
        monkeypatch.setattr(lowering, "_largest", lambda *_: {})
        make_variant(overflowing, tmp_path, self.options)
        manifest = Bundle.open(tmp_path).manifest
        assert manifest.kept["local"]
        assert manifest.comparison.largest_change < 0.005

    @pytest.mark.slow
    def test_what_overflows_unforeseen_does_not_pass_the_gate(
        self, overflowing, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(lowering, "_largest", lambda *_: {})
        monkeypatch.setattr(lowering, "_FRONTS", (0,))
        options = replace(self.options, accept_loss=True)
        with pytest.raises(AccuracyError, match=r"overflow in FP16: \d+ of 25 verdicts"):
            make_variant(overflowing, tmp_path, options)


@pytest.mark.slow
def test_without_images_the_photograph_that_judges_was_not_tried_on(
    export_family, tmp_path, monkeypatch
):
    tried, judged = [], []

    def trial(bundle, views, *more):
        tried.extend(overview.tobytes() for overview in views["global"])
        return Trial(bundle, views, *more)

    def compare(reference, candidate, images, *more):
        judged.extend(resample(decode(image), 224).tobytes() for image in images)
        return compare_bundles(reference, candidate, images, *more)

    monkeypatch.setattr(lowering, "Trial", trial)
    monkeypatch.setattr(variants, "compare_bundles", compare)
    variant = VariantOptions("fp16", images=None, judgements=JUDGEMENTS)
    make_variant(export_family("vit"), tmp_path, variant)
    assert len(set(tried)) == 2
    assert len(set(judged)) == 1
    assert not set(tried) & set(judged)
    assert Bundle.open(tmp_path).manifest.comparison.images == 1


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_verdicts_are_compared_in_what_the_bundle_says(precision, make_precision):
    comparison = make_precision("vit", precision).manifest.comparison
    assert comparison.precision == precision
    serving = open_on_cpu(make_precision("vit", precision))
    simulated = serving.precision != precision
    assert ("simulating" in comparison.engine) == simulated
    assert serving.description in comparison.engine


def test_the_gate_times_an_engine_in_a_runs_batches(export_family):
    """Else a graph that is compiled for full batches only, as ConvNeXt's, looks slower."""
    bundle = export_family("convnext")
    assert open_on_cpu(bundle).largest == Detector(bundle)._engine.largest


def test_bf16_on_an_engine_without_it_is_an_error(make_precision):
    with pytest.raises(EngineError, match="refuses the global graph"):
        Detector(make_precision("vit", "bf16"), DetectorOptions(engine="onnxruntime"))


@families("int8")
class TestInt8:
    def quantised(self, bundle: Bundle) -> Iterator[tuple[Role, GraphProto, NodeProto]]:
        for role in BACKBONES:
            found = graph(bundle, role)
            for node in found.node:
                if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                    yield role, found, node

    def test_zero_points_are_0_and_only_what_is_never_negative_is_unsigned(
        self, family, make_precision
    ):
        full = make_precision(family, "fp32")
        unsigned = {role: never_negative(graph(full, role)) for role in BACKBONES}
        found_unsigned = False
        for role, found, node in self.quantised(make_precision(family, "int8")):
            values = {tensor.name: tensor for tensor in found.initializer}
            zero_point = numpy_helper.to_array(values[node.input[2]])
            if node.op_type == "QuantizeLinear":
                expected = np.uint8 if node.input[0] in unsigned[role] else np.int8
                assert zero_point.dtype == expected
            assert not zero_point.any()
            scale = numpy_helper.to_array(values[node.input[1]])
            assert scale.dtype == np.float32
            assert (scale > 0).all()
            found_unsigned |= zero_point.dtype == np.uint8
        assert found_unsigned == (family != "convnext")  # which has neither ReLU nor attention

    def test_weights_have_a_scale_for_each_output_channel(self, family, make_precision):
        for role in BACKBONES:
            found = graph(make_precision(family, "int8"), role)
            values = {tensor.name: tensor for tensor in found.initializer}
            makers = {node.output[0]: node for node in found.node}
            for node in found.node:
                if node.op_type in PRODUCTS and node.input[1] in makers:
                    maker = makers[node.input[1]]
                    if maker.input[0] not in values:
                        continue  # attention's products of two activations
                    weight = values[maker.input[0]]
                    channels = weight.dims[0 if node.op_type == "Conv" else 1]
                    assert weight.data_type == TensorProto.INT8
                    assert list(values[maker.input[1]].dims) == [channels]

    def test_everything_else_stays_in_fp32(self, family, make_precision):
        """Biases, normalisation, softmax, pooling; outputs of products."""
        for role in BACKBONES:
            found = graph(make_precision(family, "int8"), role)
            kind = types(found)
            assert TensorProto.INT32 not in {t.data_type for t in found.initializer}
            makers = {name: node.op_type for node in found.node for name in node.output}
            readers = Counter(
                node.op_type
                for node in found.node
                for name in node.input
                if makers.get(name) == "DequantizeLinear"
            )
            assert set(readers) <= {*PRODUCTS, "Add"}
            for node in found.node:
                if node.op_type in PRODUCTS:
                    assert kind[node.output[0]] == TensorProto.FLOAT

    def test_layers_are_quantised_but_for_those_named(self, family, make_precision):
        low, full = make_precision(family, "int8"), make_precision(family, "fp32")
        for role in BACKBONES:
            found = graph(low, role)
            makers = {name: node.op_type for node in found.node for name in node.output}
            kept = low.manifest.kept.get(role, ())
            layers = find_layers(graph(full, role), full.manifest.backbone, form_of("fp32"))
            named = {name for layer in layers for name in layer.nodes}
            for node in found.node:
                of = {makers.get(name) for name in node.input[:2]}
                quantised = node.name in named and node.name not in kept
                assert (of == {"DequantizeLinear"}) == quantised

    def test_both_engines_compute_the_same(self, family, make_precision, photographs):
        photographs = shown_to(family, photographs)
        bundle = make_precision(family, "int8")
        scores = [
            [v.score for v in Detector(bundle, DetectorOptions(engine=engine)).detect(photographs)]
            for engine in ("onnxruntime", "openvino")
        ]
        assert scores[0] == pytest.approx(scores[1], abs=0.02)


@pytest.mark.parametrize("family", slow_but(["vit"], ["vit", "resnet"]))
class TestInt8WithFp16:
    """What INT8 leaves in floating point is FP16, as GPUs want it."""

    def test_the_bundle_says_so(self, family, make_precision):
        manifest = make_precision(family, "int8", "fp16").manifest
        assert (manifest.precision, manifest.rest) == ("int8", "fp16")
        assert manifest.types == "int8 and fp16"
        assert make_precision(family, "int8").manifest.rest == "fp32"

    def test_products_read_int8_and_give_fp16_but_for_those_named(self, family, make_precision):
        bundle, full = make_precision(family, "int8", "fp16"), make_precision(family, "fp32")
        for role in BACKBONES:
            found = graph(bundle, role)
            kind = types(found)
            nodes = {node.name: node for node in found.node}
            makers = {name: node.op_type for node in found.node for name in node.output}
            kept = bundle.manifest.kept.get(role, ())
            for layer in find_layers(graph(full, role), full.manifest.backbone, form_of("fp16")):
                if layer.node not in kept:
                    node = nodes[layer.node]
                    assert [makers.get(name) for name in node.input[:2]] == ["DequantizeLinear"] * 2
                    assert {kind[x] for x in (*node.input, *node.output)} == {TensorProto.FLOAT16}

    def test_no_cast_parts_a_product_from_its_roundings(self, family, make_precision):
        for role in BACKBONES:
            found = graph(make_precision(family, "int8", "fp16"), role)
            makers = {name: node.op_type for node in found.node for name in node.output}
            for node in found.node:
                if node.op_type == "Cast":
                    assert makers.get(node.input[0]) != "DequantizeLinear"

    def test_it_has_the_form_for_gpus(self, family, make_precision):
        """TensorRT has no unsigned INT8, and fuses attention only in floating point."""
        full = make_precision(family, "fp32")
        for role in BACKBONES:
            found = graph(make_precision(family, "int8", "fp16"), role)
            assert TensorProto.UINT8 not in {t.data_type for t in found.initializer}
            layers = find_layers(graph(full, role), full.manifest.backbone, form_of("fp32"))
            attention = {name for each in layers if each.kind == ATTENTION for name in each.nodes}
            makers = {name: node.op_type for node in found.node for name in node.output}
            for node in found.node:
                if node.name in attention:
                    assert "DequantizeLinear" not in {makers[name] for name in node.input}

    def test_what_sums_many_values_stays_in_fp32(self, family, make_precision):
        for role in BACKBONES:
            found = graph(make_precision(family, "int8", "fp16"), role)
            kind = types(found)
            for node in found.node:
                if node.op_type in SUMMING:
                    assert kind[node.input[0]] == kind[node.output[0]] == TensorProto.FLOAT

    def test_verdicts_are_fp32s_on_both_engines(self, family, make_precision, photographs):
        """By the yardstick, on images that it was not made with."""
        full, low = make_precision(family, "fp32"), make_precision(family, "int8", "fp16")
        draws = np.stack([margins(full, "openvino", photographs, seed) for seed in range(4)], 1)
        for engine in ("openvino", "onnxruntime"):
            found = margins(low, engine, photographs, 0)[:, np.newaxis]
            assert deviation(draws[:, :1], found, draw_noise(draws)).good
            scores = 1 / (1 + np.exp(-np.hstack([draws[:, :1], found])))
            assert np.ptp(scores, axis=1).max() < 0.03

    @pytest.mark.skipif(platform.machine() not in X86, reason="others have kernels for FP16")
    def test_onnx_runtime_says_that_it_computes_none_of_it_in_int8(
        self, family, make_precision, tmp_path
    ):
        bundle = make_precision(family, "int8", "fp16")
        assert Detector(bundle, DetectorOptions(engine="openvino")).precision == "int8"
        assert Detector(bundle, DetectorOptions(engine="onnxruntime")).precision == "fp32"
        counts = [
            optimised_nodes(made.graph_path("local"), tmp_path / "optimised.onnx")
            for made in (bundle, make_precision(family, "int8"))
        ]
        fused = [sum(count[name] for name in INTEGER_PRODUCTS) for count in counts]
        assert fused[0] < fused[1] / 4

    def test_its_gate_judged_what_a_cpu_does_not_compute(self, family, make_precision):
        comparison = make_precision(family, "int8", "fp16").manifest.comparison
        assert comparison is not None
        assert comparison.precision == "int8"
        assert "simulating" in comparison.engine


def test_a_graph_of_which_every_layer_is_kept_is_the_fp32_one(make_precision):
    model = onnx.load(make_precision("vit", "fp32").graph_path("local"))
    assert quantise(model, [], {}, {}) == model


def residual_makers(model: onnx.ModelProto) -> list[list[str]]:
    """Return the operators that make both inputs of each residual Add."""
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    constants = {tensor.name for tensor in model.graph.initializer}
    adds = [n for n in model.graph.node if n.op_type == "Add" and not constants & set(n.input)]
    return [[makers[name] for name in node.input] for node in adds]


def test_residual_adds_before_an_activation_are_quantised_on_both_branches(export_family):
    bundle = export_family("resnet")
    for role in BACKBONES:
        model = onnx.load(bundle.graph_path(role))
        layers = find_layers(model.graph, bundle.manifest.backbone, form_of("fp32"))
        grids = {name: Grid(1.0, unsigned=False) for layer in layers for name in layer.inputs}
        found = residual_makers(quantise(model, layers, grids, {}))
        assert found == [["DequantizeLinear"] * 2] * 4


@pytest.mark.parametrize("family", [slow("convnext"), "vit", "timm"])
def test_other_residual_adds_stay_in_fp32(family, make_precision):
    for role in BACKBONES:
        found = residual_makers(onnx.load(make_precision(family, "int8").graph_path(role)))
        assert found
        assert "DequantizeLinear" not in {maker for makers in found for maker in makers}


@pytest.fixture(scope="module")
def sensitive(tmp_path_factory) -> Path:
    """A network with one hidden value so large in each block that INT8 rounds the others to 0."""
    model = random_glass("vit")
    with torch.no_grad():
        for backbone in (model.global_model, model.local_model):
            for block in backbone.encoder.layers:
                block.mlp[0].weight[0] *= 1e4
                block.mlp[3].weight[:, 0] /= 1e4
    checkpoint = tmp_path_factory.mktemp("sensitive") / "gl_vit.pt"
    torch.save(model.state_dict(), checkpoint)
    return checkpoint


class TestGate:
    def options(self, images: Path, **more) -> ExportOptions:
        calibration = CalibrationOptions(budget=0.0)
        sets = split_images(images, calibration.images)
        variant = VariantOptions("int8", sets, calibration, JUDGEMENTS, **more)
        return ExportOptions(variant=variant)

    def test_verdicts_that_do_not_survive_are_refused_and_nothing_is_written(
        self, sensitive, calibration_images
    ):
        target = sensitive.with_suffix(".glass")
        with pytest.raises(AccuracyError, match=r"error is \S+ of the draws' .*--accept-loss"):
            export_bundle(sensitive, target, self.options(calibration_images))
        assert [path.name for path in sensitive.parent.iterdir()] == ["gl_vit.pt"]

    def test_the_loss_can_be_accepted_and_stands_in_the_manifest(
        self, sensitive, calibration_images
    ):
        options = self.options(calibration_images, accept_loss=True)
        bundle = export_bundle(sensitive, sensitive.with_suffix(".glass"), options)
        comparison = bundle.manifest.comparison
        assert comparison is not None
        assert comparison.yardstick is not None
        assert comparison.yardstick.error > ERROR_REFUSED
