"""glass-bench collections: the same images in every form, fair turns, and honest curves."""

from __future__ import annotations

import csv
import io
import os
import tarfile
import time
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, call, refusal
from glass_edge.benchmarks.collections.cluster import judging_seconds
from glass_edge.benchmarks.collections.forms import (
    FOLDER,
    FORMS,
    TAR,
    write_forms,
    write_small_tar,
)
from glass_edge.benchmarks.collections.measure import OUTPUTS, measure_sources
from glass_edge.benchmarks.collections.memory import MARKS, Reading, curve
from glass_edge.benchmarks.collections.report import (
    CollectionsReport,
    Memory,
    OutputCost,
    PeakCurve,
    Sharing,
    SourceCost,
    WayToShare,
)
from glass_edge.benchmarks.measuring.judge import Judge
from glass_edge.benchmarks.measuring.rotation import in_rotation
from glass_edge.benchmarks.measuring.samples import Samples
from glass_edge.runtime.containers.arguments import images_named
from glass_edge.runtime.finding.stored import StoredImage
from glass_edge.runtime.machine.environment import environment
from glass_edge.runtime.results.parquet import ParquetWriter
from glass_edge.runtime.results.records import decode_record
from glass_edge.runtime.shards.parts import PartSummary
from PIL import Image

from glass_edge import DetectorOptions, EngineError, ImageError

run = partial(call, "glass-bench", ROOT, "collections")
LINUX = Path("/proc/self/status").exists()
NAMES = ["coffee", "rocket", "cat"]


@pytest.fixture(scope="module")
def photos() -> list[str]:
    """Small photographs of different content, in an order that is not that of their names."""
    return [str(ROOT / "examples" / "images" / "real" / f"{name}.jpg") for name in NAMES]


@pytest.fixture(scope="module")
def forms(tmp_path_factory, photos) -> Path:
    place = tmp_path_factory.mktemp("forms")
    assert write_forms(photos, 2, place) == 6
    return place


@pytest.fixture(scope="module")
def judge(vit_bundle) -> Judge:
    with pytest.MonkeyPatch.context() as patch:  # it settles Pillow for its process
        patch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
        return Judge(vit_bundle.path, DetectorOptions(engine="onnxruntime"))


def content(image: str | StoredImage) -> bytes:
    return image.read(1 << 30) if isinstance(image, StoredImage) else Path(image).read_bytes()


class TestForms:
    @pytest.mark.parametrize("form", FORMS)
    def test_hold_the_same_images_in_the_same_order(self, forms, photos, form):
        found = list(map(content, images_named([str(forms / form)]).images))
        assert found == [Path(photo).read_bytes() for photo in photos * 2]

    def test_name_each_image_once(self, forms):
        assert len({path.name for path in (forms / FOLDER).iterdir()}) == 6

    def test_of_a_table_are_those_of_hugging_face(self, forms):
        assert str(pq.read_schema(forms / "photos.parquet").field("image").type) == (
            "struct<bytes: binary, path: string>"
        )


def test_a_small_tar_has_as_many_images_as_asked_for(photos, tmp_path):
    write_small_tar(photos, 1005, 32, tmp_path / TAR)
    with tarfile.open(tmp_path / TAR) as tar:
        members = tar.getmembers()
        content = tar.extractfile(members[-1]).read()
    assert len({member.name for member in members}) == 1005
    with Image.open(io.BytesIO(content)) as image:
        assert max(image.size) == 32


class InThisProcess:
    """What a process of its own does, without one."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def ask(self, method, *arguments):
        return method(self.judge, *arguments)


class TestSources:
    def test_are_all_judged_in_every_round_but_the_first(self, judge, forms):
        engine, costs = measure_sources(InThisProcess(judge), forms, None, 2)
        assert engine.startswith("onnxruntime")
        assert [cost.name for cost in costs] == list(FORMS)
        for cost in costs:
            assert len(cost.seconds.seconds) == len(cost.cpu_seconds.seconds) == 2
            assert min(cost.seconds.seconds) > 0
            assert min(cost.cpu_seconds.seconds) > 0
            assert cost.server_cpu_seconds is None
        folder, tar = (forms / FOLDER).iterdir(), forms / TAR
        assert costs[0].bytes == sum(file.stat().st_size for file in folder)
        assert costs[1].bytes == tar.stat().st_size

    def test_with_other_verdicts_are_an_error(self, judge, forms, photos, tmp_path):
        for form in FORMS:
            (tmp_path / form).symlink_to(forms / form)
        (tmp_path / TAR).unlink()
        with tarfile.open(tmp_path / TAR, "w") as tar:
            for photo in [*photos[1:], photos[0]] * 2:
                tar.add(photo, Path(photo).name)
        with pytest.raises(EngineError, match=r"photos\.tar gave other verdicts than the folder"):
            measure_sources(InThisProcess(judge), tmp_path, None, 1)

    def test_with_an_image_that_has_no_verdict_are_an_error(self, judge, tmp_path):
        (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
        with pytest.raises(ImageError, match=r"broken\.jpg: .* Leave it out of the benchmark\."):
            judge.judge(str(tmp_path))


class TestAJudge:
    @pytest.mark.parametrize("suffix", OUTPUTS)
    def test_writes_every_record_whole(self, judge, forms, tmp_path, suffix):
        file = tmp_path / f"records{suffix}"
        passage = judge.judge(str(forms / FOLDER), str(file))
        assert scores_in(file) == pytest.approx(list(passage.scores))
        assert passage.stages["write"] > 0
        assert passage.stages["infer"] > 0

    @pytest.mark.parametrize("suffix", OUTPUTS)
    def test_writes_kept_records_in_turn(self, judge, forms, tmp_path, suffix):
        file = tmp_path / f"alone{suffix}"
        scores = [*judge.judge(str(forms / FOLDER)).scores]
        assert judge.keep(str(forms / FOLDER)) == 6
        assert judge.write(str(file), 14) > 0
        assert scores_in(file) == pytest.approx((scores * 3)[:14])


def scores_in(file: Path) -> list[float]:
    """Read records by other means than those that wrote them."""
    if file.suffix == ".parquet":
        return pq.read_table(file).column("score").to_pylist()
    if file.suffix == ".csv":
        with file.open(newline="") as lines:
            return [float(row["score"]) for row in csv.DictReader(lines)]
    return [decode_record(line).score for line in file.read_bytes().splitlines()]


class TestTurns:
    def test_begin_each_round_with_another_one(self):
        asked = []
        in_rotation("abc", asked.append, 2, "turns")
        assert "".join(asked) == "abcbcacab"

    def test_give_each_its_own_figures_without_those_of_the_first_round(self):
        rounds = {"a": iter([9, 1, 2]), "b": iter([9, 10, 20])}
        assert in_rotation("ab", lambda name: next(rounds[name]), 2, "turns") == [(1, 2), (10, 20)]


class TestACurve:
    def test_is_that_of_the_archive_s_first_images(self, photos, tmp_path):
        write_small_tar(photos, 50, 32, tmp_path / TAR)
        found = Reading().watch(str(tmp_path / TAR), 40)
        assert (found.name, found.images) == ("read and dropped", 40)
        assert found.seconds > 0
        assert len(found.peaks) == MARKS * LINUX
        assert list(found.peaks) == sorted(found.peaks)

    @pytest.mark.skipif(not LINUX, reason="elsewhere peaks are not known")
    def test_rises_where_something_is_kept_for_a_moment(self):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        megabyte = 1 << 20

        def passing():
            for number in range(20):
                if number == 14:  # after the seventh mark
                    np.ones(64 * megabyte, np.uint8)
                yield number

        peaks = curve("passing", passing(), 20).peaks
        assert peaks[7] - peaks[6] > 60 * megabyte
        assert peaks[-1] >= peaks[7]

    def test_takes_no_more_than_it_is_asked_for(self):
        items = iter(range(100))
        assert curve("", items, 20).images == 20
        assert next(items) == 20


def write_part(folder: Path, number: int, seconds: float, end: float) -> None:
    summary = PartSummary(
        shard=number, images=0, verdicts={}, errors={}, unreadable=0, seconds=seconds,
        engine="", precision="", bundle="",
    )  # fmt: skip
    path = folder / f"part-{number:06}-{'0' * 12}.parquet"
    with path.open("wb") as file:
        ParquetWriter(file).close(summary.about())
    os.utime(path, (end, end))


class TestJudging:
    def test_lasts_from_the_first_shard_s_start_to_the_last_one_s_end(self, tmp_path):
        now = time.time()
        write_part(tmp_path, 0, seconds=5.0, end=now)  # begun 5 s before
        write_part(tmp_path, 1, seconds=1.0, end=now + 3)
        assert judging_seconds(tmp_path, 0) == pytest.approx(8.0, abs=1e-3)

    def test_of_too_few_images_is_an_error(self, tmp_path):
        write_part(tmp_path, 0, seconds=5.0, end=time.time())
        with pytest.raises(EngineError, match="judged 0 images of 7"):
            judging_seconds(tmp_path, 7)


TENTHS = tuple(tenth * 1_000_000 for tenth in range(1, MARKS + 1))


def a_report(**changes) -> CollectionsReport:
    """A report of ten images, in the second round of which the machine was slow."""
    plain, slow = Samples((1.0, 10.0)), Samples((2.0, 20.0))
    report = CollectionsReport(
        schema=1,
        command="glass-bench collections",
        environment=environment(),
        libraries={"pyarrow": "26"},
        images=10,
        image_bytes=2e6,
        bundle="demo.glass@0",
        engine="onnxruntime",
        rounds=2,
        sources=(
            SourceCost("photos", 20_000_000, plain, plain),
            SourceCost("folder in a bucket", None, slow, plain, Samples((0.25, 0.25))),
        ),
        outputs=(
            OutputCost(".jsonl", plain, Samples((0.2, 0.2)), 1000),
            OutputCost(".csv", slow, Samples((0.4, 0.4)), 1000),
        ),
        memory=Memory(100, 1_000_000, 96, (PeakCurve("judged", 100, 2.0, TENTHS),)),
        sharing=Sharing(
            8, 2, (WayToShare("processes", plain, slow), WayToShare("actors", slow, slow))
        ),
    )  # fmt: skip
    return msgspec.structs.replace(report, **changes)


def cells(table: str, row: int) -> list[str]:
    return [cell.strip() for cell in table.splitlines()[2 + row].strip("|").split("|")]


class TestTables:
    def test_compare_sources_with_the_folder_of_the_same_round(self):
        _, size, _, ratio, cpu, server = cells(a_report().source_table(), 1)
        assert ratio == "0.50 (0.50 to 0.50)"
        assert cpu == "5.5"
        assert (size, server) == ("", "0.25")
        assert cells(a_report().source_table(), 0)[1] == "20.0"
        assert cells(a_report().source_table(), 0)[-1] == ""

    def test_compare_outputs_with_json_lines(self):
        *_, ratio, alone = cells(a_report().output_table(), 1)
        assert ratio == "2.00 (2.00 to 2.00)"
        assert alone == "400"

    def test_show_how_memory_went(self):
        assert cells(a_report().memory_table(), 0) == ["judged", "100", "50", "1.0", "5.0", "10.0"]

    def test_compare_clusters_by_judging_and_in_all(self):
        row = cells(a_report().sharing_table(), 1)
        assert row[2] == "0.50 (0.50 to 0.50)"
        assert row[4] == "1.00 (1.00 to 1.00)"

    def test_of_what_was_left_out_are_left_out(self):
        text = a_report(memory=None, sharing=None, sources=a_report().sources[:1]).to_markdown()
        assert "Memory" not in text
        assert "cluster" not in text
        assert "moto" not in text

    def test_are_the_same_after_json(self):
        report = a_report()
        again = msgspec.json.decode(report.to_json(), type=CollectionsReport)
        assert again.to_markdown() == report.to_markdown()


@pytest.mark.slow
@pytest.mark.usefixtures("every_cpu")
def test_everything_is_measured(vit_bundle, photos, tmp_path):
    output = ["-o", tmp_path / "report.json", "-o", tmp_path / "report.md"]
    few = ["--rounds", 2, "--repeat", 2, "--records", 50]
    some = ["--read-images", 200, "--memory-images", 20, "--cluster"]
    done = run(*photos, "-b", vit_bundle.path, *few, *some, *output)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.md").read_text() == done.stdout
    report = msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=CollectionsReport)
    names = [source.name for source in report.sources]
    assert names == [*FORMS, "folder in a bucket", "tar in a bucket"]
    assert sum(sum(each.server_cpu_seconds.seconds) for each in report.sources[-2:]) > 0
    assert all(each.server_cpu_seconds is None for each in report.sources[:-2])
    assert report.images == 6
    assert [each.suffix for each in report.outputs] == list(OUTPUTS)
    assert [each.images for each in report.memory.curves] == [200, 20]
    assert [len(way.judging.seconds) for way in report.sharing.ways] == [2, 2]
    for way in report.sharing.ways:
        assert all(a < b for a, b in zip(way.judging.seconds, way.wall.seconds, strict=True))


def test_images_that_are_not_there_are_one_sentence(vit_bundle):
    assert "no-such-folder" in refusal(run("no-such-folder/*.jpg", "-b", vit_bundle.path))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="CPUs cannot be chosen")
def test_a_cluster_on_one_cpu_is_refused(vit_bundle, photos):
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [min(own)])
    try:
        done = run(*photos, "-b", vit_bundle.path, "--cluster")
    finally:
        os.sched_setaffinity(0, own)
    assert "needs Linux and 2 CPUs: leave it out" in refusal(done)
