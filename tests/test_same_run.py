"""--resume mixes no engines and no precisions in one file."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from glass_edge.runtime.commands.run import main
from glass_edge.runtime.containers.container import ReadOptions
from glass_edge.runtime.judging.same_run import SameRun

from glass_edge import Bundle, Detector, DetectorOptions


@pytest.mark.parametrize(
    ("field", "recorded"),
    [
        ("engine", "openvino 2026.4.1 cpu"),
        ("engine", "onnxruntime 1.0.0 cpu"),
        ("precision", "bf16"),
    ],
)
def test_a_verdict_of_another_engine_or_precision_is_another(
    field, recorded, vit_bundle, photographs
):
    detector = Detector(vit_bundle, DetectorOptions(engine="onnxruntime", crops=2))
    (verdict,) = detector.detect(photographs[0])
    same = SameRun(detector, ReadOptions())
    assert same(verdict) == []
    (difference,) = same(msgspec.structs.replace(verdict, **{field: recorded}))
    assert f"{recorded} (now {getattr(detector, field)})" in difference


def test_a_damaged_images_verdict_belongs_to_a_run_that_allows_damage(vit_bundle, photographs):
    detector = Detector(vit_bundle, DetectorOptions(crops=2))
    (verdict,) = detector.detect(photographs[0])
    damaged = msgspec.structs.replace(verdict, damaged=True)
    assert SameRun(detector, ReadOptions())(damaged) == ["--allow-damaged"]
    allowing = Detector(vit_bundle, DetectorOptions(crops=2, allow_damaged=True))
    assert (
        SameRun(allowing, ReadOptions())(damaged) == SameRun(allowing, ReadOptions())(verdict) == []
    )


def test_a_run_is_not_taken_up_by_another_engine(
    vit_bundle: Bundle, photographs: list[Path], tmp_path: Path
):
    output = tmp_path / "verdicts.jsonl"
    command = [str(photographs[0]), "--bundle", str(vit_bundle.path), "--crops", "2", "-o",
               str(output), "--resume", "--engine"]  # fmt: skip
    first = CliRunner().invoke(main, [*command, "onnxruntime"])
    assert first.exit_code == 0, first.output
    before = output.read_bytes()
    other = CliRunner().invoke(main, [*command, "openvino"])
    assert other.exit_code == 2
    assert "Error: the records there were made with onnxruntime " in other.output
    assert "(now openvino " in other.output
    assert output.read_bytes() == before
    again = CliRunner().invoke(main, [*command, "onnxruntime"])
    assert again.exit_code == 0, again.output
    assert output.read_bytes() == before
