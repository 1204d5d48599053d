"""glass-bench costs: arithmetic that anyone can repeat, from times that were measured."""

from __future__ import annotations

import os
from functools import partial

import msgspec
import pytest
from conftest import ROOT, call, refusal
from glass_edge.benchmarks.costs.measure import _on_one_cpu, _seconds
from glass_edge.benchmarks.costs.options import Budget
from glass_edge.benchmarks.costs.report import BundleCosts, CostsReport, ImageCost
from glass_edge.benchmarks.measuring.judge import Passage
from glass_edge.benchmarks.measuring.process import OwnProcess
from glass_edge.benchmarks.measuring.samples import Samples
from glass_edge.runtime.machine.environment import environment
from where_it_runs import WhereItRuns

run = partial(call, "glass-bench", ROOT, "costs")
OTHER = {"read": 0.001, "views": 0.002, "wait": 9.0, "aggregate": 0.003, "write": 0.001}
"""Seconds by stage besides decoding and the network."""


def an_image(
    megapixels: float, decode: float, infer: float, *, crops: int | None = 4, rounds: int = 3
) -> ImageCost:
    """An image of which every round says the same."""
    stages = {**OTHER, "decode": decode, "infer": infer}
    whole = sum(stages.values()) - stages["wait"]
    return ImageCost(
        crops,
        megapixels,
        bytes=400_000,
        seconds=Samples((whole,) * rounds),
        stages={name: Samples((seconds,) * rounds) for name, seconds in stages.items()},
    )


def a_report(*images: ImageCost, all_cpus: float = 0.05, **budget: float) -> CostsReport:
    return CostsReport(
        schema=1,
        command="glass-bench costs",
        environment=environment(),
        rounds=3,
        images=4,
        budget=Budget(**budget),
        bundles=(
            BundleCosts("demo.glass@0", "fp32", "openvino", images, Samples((all_cpus,) * 3)),
        ),
    )


def cells(table: str, row: int) -> list[str]:
    return [cell.strip() for cell in table.splitlines()[2 + row].strip("|").split("|")]


class TestABudget:
    def test_pays_for_the_hours_of_a_cpu(self):
        assert Budget(price=0.5).dollars_per_million(0.36) == pytest.approx(100 * 0.5)

    def test_divides_a_collection_among_all_cpus(self):
        budget = Budget(images=1_000_000, machines=2, cpus=5)
        assert budget.days(0.864) == pytest.approx(1.0)


class TestTables:
    def test_divide_an_image_into_decoding_and_engine(self):
        row = cells(a_report(an_image(12, decode=0.017, infer=0.077)).cost_table(), 0)
        assert row[4:7] == ["20", "80", "engine, 80 %"]

    def test_name_decoding_where_it_takes_longer(self):
        row = cells(a_report(an_image(12, decode=0.057, infer=0.017)).cost_table(), 0)
        assert row[6] == "decoding, 75 %"

    def test_multiply_the_whole_image_with_the_budget(self):
        image = an_image(12, decode=0.017, infer=0.076)  # 0.1 s with everything but waiting
        budget = {"price": 0.36, "images": 864_000, "machines": 1, "cpus": 1}
        row = cells(a_report(image, **budget).cost_table(), 0)
        assert row[7:] == ["10 (10 to 10)", "10 (10 to 10)", "1 (1 to 1)"]

    def test_show_the_spread_of_the_rounds(self):
        image = msgspec.structs.replace(
            an_image(1, decode=0.1, infer=0.1), seconds=Samples((0.1, 0.2, 0.4))
        )
        row = cells(a_report(image, price=0.36).cost_table(), 0)
        assert row[7] == r"5 (3.75 to 7.5)\*"
        assert row[8] == "20 (15 to 30)"
        assert "unsteady" in a_report(image).to_markdown()

    @pytest.mark.parametrize(
        ("infer", "engine", "size"),
        [
            (0.010, "13", "3.25 MP"),
            (0.0001, "3.1", "less than 2 MP"),
            (0.5, "503", "more than 12 MP"),
        ],
    )
    def test_say_from_which_size_decoding_binds(self, infer, engine, size):
        images = [an_image(2, 0.005, infer), an_image(4, 0.013, infer), an_image(12, 0.05, infer)]
        row = cells(a_report(*images).balance_table(), 0)
        assert (row[2], row[4]) == (engine, size)

    def test_of_one_size_say_on_which_side_it_is(self):
        assert cells(a_report(an_image(2, 0.1, 0.01)).balance_table(), 0)[4] == "less than 2 MP"
        assert cells(a_report(an_image(2, 0.01, 0.1)).balance_table(), 0)[4] == "more than 2 MP"

    def test_are_not_misled_by_sizes_that_are_nearly_the_same(self):
        sizes = {1: 0.011, 1.1: 0.010, 12: 0.1}  # the larger one was faster by chance
        images = [an_image(size, decode, 0.05) for size, decode in sizes.items()]
        found = float(cells(a_report(*images).balance_table(), 0)[4].removesuffix(" MP"))
        assert 1.1 < found < 12

    def test_leave_crops_empty_where_none_are_drawn(self):
        image = an_image(2, 0.1, 0.01, crops=None)
        assert cells(a_report(image).cost_table(), 0)[1:3] == ["fp32", ""]
        assert cells(a_report(image).balance_table(), 0)[1] == ""

    def test_say_what_one_more_megapixel_costs(self):
        images = [an_image(2, 0.005, 0.1), an_image(12, 0.055, 0.1)]
        assert cells(a_report(*images).balance_table(), 0)[3] == "5"
        assert cells(a_report(images[0]).balance_table(), 0)[3] == ""  # nothing to compare with

    def test_have_a_row_for_each_number_of_crops(self):
        images = [an_image(size, 0.01, 0.01, crops=crops) for crops in (4, 16) for size in (1, 2)]
        report = a_report(*images)
        assert [cells(report.balance_table(), row)[1] for row in range(2)] == ["4", "16"]
        assert [cells(report.cost_table(), row)[2] for row in range(4)] == ["4", "4", "16", "16"]

    def test_compare_all_cpus_with_one_at_the_largest_size(self):
        images = [an_image(1, 0.013, 0.01), an_image(12, 0.083, 0.01)]
        row = cells(a_report(*images, all_cpus=0.05).scaling_table(), 0)
        assert row[1:] == ["4", "12", "2.00 (2.00 to 2.00)"]

    def test_mark_what_all_cpus_did_unsteadily(self):
        report = a_report(an_image(12, 0.083, 0.01))
        (costs,) = report.bundles
        unsteady = msgspec.structs.replace(costs, all_cpus=Samples((0.05, 0.08, 0.06)))
        report = msgspec.structs.replace(report, bundles=(unsteady,))
        assert report.scaling_table().endswith(r"\* |")
        assert r"\* unsteady" in report.to_markdown()

    def test_are_the_same_after_json(self):
        report = a_report(an_image(12, decode=0.017, infer=0.077))
        again = msgspec.json.decode(report.to_json(), type=CostsReport)
        assert again.to_markdown() == report.to_markdown()


def test_seconds_are_those_of_an_image():
    passage = Passage((0.1, 0.2, 0.3, 0.4), 2.0, 1.5, {}, "onnxruntime")
    assert _seconds([passage, passage]) == Samples((0.5, 0.5))


@pytest.mark.usefixtures("every_cpu")
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="CPUs cannot be chosen")
def test_a_process_that_is_measured_has_one_cpu():
    before = os.sched_getaffinity(0)
    with _on_one_cpu():
        process = OwnProcess("one CPU", WhereItRuns)
    with process:
        assert process.ask(WhereItRuns.cpus) == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_every_bundle_is_measured_with_all_crops_and_sizes(vit_bundle, tmp_path):
    few = ["--crops", "2,1", "--megapixels", "0.5,0.1", "--images", 2, "--rounds", 2]
    budget = ["--price", 2, "--collection", 1000, "--machines", 3, "--cpus", 5]
    output = ["-o", tmp_path / "costs.json", "-o", tmp_path / "costs.md"]
    bundle = ["-b", vit_bundle.path, "--engine", "onnxruntime"]
    done = run(*bundle, *few, *budget, *output)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "costs.md").read_text() == done.stdout
    report = msgspec.json.decode((tmp_path / "costs.json").read_bytes(), type=CostsReport)
    assert report.budget == Budget(2, 1000, 3, 5)
    (costs,) = report.bundles
    assert costs.engine.startswith("onnxruntime")
    found = [(cost.crops, cost.megapixels) for cost in costs.images]
    assert found == [(1, 0.1), (1, 0.5), (2, 0.1), (2, 0.5)]
    for cost in costs.images:
        assert len(cost.seconds.seconds) == 2
        assert cost.preparing > 0
        assert cost.engine > 0
        assert cost.stages["write"].median > 0
        assert cost.preparing + cost.engine < 1.5e3 * max(cost.seconds.seconds)
    assert len(costs.all_cpus.seconds) == 2
    assert min(costs.all_cpus.seconds) > 0
    small, large, *_ = costs.images
    assert small.bytes < large.bytes
    assert quickest(costs, 0.1) < quickest(costs, 0.5)


def quickest(costs: BundleCosts, megapixels: float) -> float:
    """Return the least seconds of decoding at a size: others may have met a busy machine."""
    found = [each.stages["decode"] for each in costs.images if each.megapixels == megapixels]
    return min(min(each.seconds) for each in found)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["--price", "0"], "0 is not in the range x>0"),
        (["--megapixels", "0"], "'0' is not a list of positive numbers such as 1,12,24."),
        (["--megapixels", "1,500"], "images have at most 200 megapixels."),
        (["--rounds", "1"], "1 is not in the range x>=2"),
        (["-o", "costs.png"], ".json or .md"),
        (["--crops", "2000"], "crops must lie between 1 and 1024, not 2000."),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(vit_bundle, wrong, sentence):
    assert sentence in refusal(run("-b", vit_bundle.path, *wrong))
