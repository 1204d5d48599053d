"""Options have bounds, the same in Python and on the command line; beyond them is one sentence."""

from __future__ import annotations

import re
import sys

import pytest
from click.testing import CliRunner
from glass_edge.benchmarks.evaluation.cli import main as evaluate
from glass_edge.runtime.commands.run import main as run
from glass_edge.runtime.machine.errors import InputError
from glass_edge.runtime.views.sizes import MOST_VIEWS

from glass_edge import Detector, DetectorOptions


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crops", 0),
        ("crops", MOST_VIEWS + 1),
        ("crops", 2_000_000),
        ("batch_size", 0),
        ("batch_size", 1_000_000),
        ("threads", -1),
        ("threads", 100_000),
        ("workers", -1),
        ("workers", 100_000),
        ("max_pixels", 0),
        ("max_pixels", sys.maxsize**2),
    ],
)
def test_what_no_machine_could_do_is_refused_with_one_sentence(
    name, value, vit_bundle, photographs
):
    sentence = rf"{name} must lie between \d+ and \d+, not {value}\."
    with pytest.raises(InputError, match=f"^{sentence}$"):
        DetectorOptions(**{name: value})
    option = f"--{name.replace('_', '-')}"
    arguments = [str(photographs[0]), "--bundle", str(vit_bundle.path), option, str(value)]
    done = CliRunner().invoke(run, arguments)
    assert done.exit_code == 2
    assert re.fullmatch(f"Error: {sentence}\n", done.output)


@pytest.mark.parametrize("value", [0, -3])
def test_memory_is_said_in_the_units_of_who_gave_it(value):
    with pytest.raises(InputError, match=f"memory must lie between 1 and .* not {value}"):
        DetectorOptions(memory=value)
    done = CliRunner().invoke(run, ["images", "--memory", str(value)])
    assert done.exit_code == 2
    assert f"'--memory': {value} is not in the range" in done.output


def test_evaluations_have_the_same_bound(tmp_path):
    done = CliRunner().invoke(evaluate, [str(tmp_path), "--crops", str(MOST_VIEWS + 1)])
    assert done.exit_code == 2
    assert f"{MOST_VIEWS + 1} is not in the range" in done.output


@pytest.mark.slow
def test_the_largest_batch_that_is_allowed_is_judged(vit_bundle, photographs):
    options = DetectorOptions(engine="onnxruntime", crops=200, batch_size=4096, workers=64)
    (verdict,) = Detector(vit_bundle, options).detect(photographs[:1])
    assert len(verdict.crops) == 200
