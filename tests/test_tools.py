"""What `make aarch64` and `make resolve` compare and check; neither is run here."""

from __future__ import annotations

import importlib
import re

import msgspec
import pytest
from conftest import ROOT
from test_records import VERDICT

from glass_edge import Crop, Failure

REPORTS = ROOT / "docs" / "reports"
PATHS = ("images/a.jpg", "images/b.jpg")


@pytest.fixture
def tool(monkeypatch):
    """Import a script of tools/."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    return importlib.import_module


def verdict(path, **changes):
    return msgspec.structs.replace(VERDICT, path=path, file=None, **changes)


def records(**changes):
    """Records of two images; what changes is the second's."""
    return [verdict(PATHS[0]), verdict(PATHS[1], **changes)]


DIFFERENT = {
    "another placement": (
        {"crops": (Crop(1, 2, 224, 224, 0.5), Crop(301, 4, 224, 200, 0.5))},
        "places of the crops: [(1, 2, 224, 224), (300, 4, 224, 200)] on the first machine, "
        "[(1, 2, 224, 224), (301, 4, 224, 200)] on the second.",
    ),
    "another seed": ({"seed": 43}, "seed: 42 on the first machine, 43 on the second."),
    "another verdict": (
        {"verdict": "real"},
        "verdict: fake on the first machine, real on the second.",
    ),
    "another size": (
        {"width": 999},
        "size: 1000x800 on the first machine, 999x800 on the second.",
    ),
    "another bundle": (
        {"bundle": "demo.glass@0"},
        "bundle: demo.glass@0123456789ab on the first machine, demo.glass@0 on the second.",
    ),
    "other classes": (
        {"logits": {"fake": 1.0}},
        "classes: ['fake', 'real'] on the first machine, ['fake'] on the second.",
    ),
    "a logit off by 2e-4": (
        {"logits": {"fake": 1.0, "real": -0.1002}},
        "a logit differs by 2.0e-04, more than 1e-04.",
    ),
}


def test_equal_records_pass(tool):
    assert tool("compare_records").differences(records(), records()) == []


def test_what_may_differ_passes(tool):
    other = records(
        logits={"fake": 1.00009, "real": -0.1},
        score=0.7501,
        engine="onnxruntime 1.23.2 cpu",
        crops=(Crop(1, 2, 224, 224, 0.50001), Crop(300, 4, 224, 200, 0.49999)),
    )
    assert tool("compare_records").differences(records(), other) == []


@pytest.mark.parametrize(("changes", "sentence"), DIFFERENT.values(), ids=DIFFERENT)
def test_a_difference_is_one_sentence(tool, changes, sentence):
    found = tool("compare_records").differences(records(), records(**changes))
    assert found == [f"{PATHS[1]}: {sentence}"]


def test_a_missing_image_is_one_sentence(tool):
    differences = tool("compare_records").differences
    assert differences(records(), records()[:1]) == [f"{PATHS[1]}: only the first machine has it."]
    assert differences(records()[1:], records()) == [f"{PATHS[0]}: only the second machine has it."]
    assert differences([], []) == ["No image was judged."]


def test_an_image_that_was_not_judged_is_one_sentence(tool):
    error = {"type": "ImageError", "message": "the file is empty."}
    failure = msgspec.convert({"path": PATHS[1], "status": "error", "error": error}, Failure)
    found = tool("compare_records").differences(records(), [records()[0], failure])
    assert found == [f"{PATHS[1]}: it was not judged: the file is empty."]


def write_side(folder, lines, judge, environment):
    folder.mkdir()
    encoded = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    (folder / judge.RECORDS).write_bytes(encoded)
    side = judge.Side("Debian", environment, 1.5)
    (folder / judge.SIDE).write_bytes(msgspec.json.encode(side))


@pytest.mark.parametrize("changes", [{}, {"seed": 43}], ids=["equal", "different"])
def test_the_exit_code_and_the_report_say_how_it_ended(
    tool, changes, tmp_path, monkeypatch, capsys
):
    from glass_edge.runtime.machine.environment import environment

    judge, compare_records = tool("judge"), tool("compare_records")
    write_side(tmp_path / "here", records(), judge, environment())
    write_side(tmp_path / "there", records(**changes), judge, environment())
    page, data = tmp_path / "report.md", tmp_path / "report.json"
    words = [tmp_path / "here", tmp_path / "there", "--command", "make x", "-o", page, "-o", data]
    monkeypatch.setattr("sys.argv", ["compare_records.py", *map(str, words)])
    assert compare_records.main() == (1 if changes else 0)
    report = msgspec.json.decode(data.read_bytes(), type=compare_records.Report)
    assert page.read_text() == report.to_markdown()
    assert ("**Failed.**" if changes else "**Passed.**") in page.read_text()
    assert capsys.readouterr().err.count("\n") == len(changes)


def test_the_committed_report_is_what_its_data_say(tool):
    compare_records = tool("compare_records")
    content = (REPORTS / "aarch64.json").read_bytes()
    report = msgspec.json.decode(content, type=compare_records.Report)
    assert (REPORTS / "aarch64.md").read_text() == report.to_markdown()
    assert report.passed
    assert report.there.environment.system == "Linux aarch64"


def test_extras_are_spelled_out(tool):
    extras = {"a": ["x>=1", "Glass_Edge[b]"], "b": ["y", "glass-edge[c]"], "c": ["z", "x>=1"]}
    assert tool("resolve").spelled_out("glass-edge", "a", extras) == ["x>=1", "y", "z"]


def test_every_extra_of_the_project_is_read(tool):
    resolve = tool("resolve")
    project = resolve.Project.read(ROOT / "pyproject.toml")
    assert project.python == "3.10"
    assert all("glass-edge" not in " ".join(lines) for lines in project.extras.values())
    assert any(line.startswith("torch>=") for line in project.extras["test"])
    rows = re.findall(r"^\| ([\w-]+) \| \d+", (REPORTS / "resolve.md").read_text(), re.MULTILINE)
    assert rows == list(project.extras), "an extra is new or gone: run make resolve"


def index(sources, missing):
    """A resolver that knows which packages have no wheel, by name, and which are on no platform."""

    def resolve(requirements, platform, _, from_source):
        for name in requirements:
            if (name in sources and name not in from_source) or (name, platform) in missing:
                return f"{name} has no wheel for {platform}."
        return dict.fromkeys(requirements, "1.0")

    return resolve


@pytest.mark.parametrize(
    ("sources", "missing", "failures"),
    [
        ({"cuda"}, {("gpu", "aarch64")}, []),
        (set(), {("gpu", "aarch64")}, ["cuda has wheels for x86_64 now: delete its exemption "
                                       "there.", "cuda has wheels for aarch64 now: delete its "
                                       "exemption there."]),
        ({"cuda"}, set(), ["gpu has wheels for aarch64 now: delete its exemption there."]),
        ({"cuda"}, {("gpu", "aarch64"), ("gpu", "x86_64")},
         ["one cannot be installed on x86_64: gpu has no wheel for x86_64."]),
    ],
    ids=["as expected", "wheels now", "a wheel there now", "no wheel"],
)  # fmt: skip
def test_exemptions_are_used_and_must_be_needed(tool, sources, missing, failures):
    resolve = tool("resolve")
    exemptions = (
        resolve.Exemption("cuda", resolve.PLATFORMS, source=True, reason="why"),
        resolve.Exemption("gpu", ("aarch64",), source=False, reason="why"),
    )
    project = resolve.Project("3.10", {"one": ("numpy", "gpu"), "two": ("cuda",)})
    report = resolve.check(project, index(sources, missing), exemptions)
    assert report.failures == failures
    if not failures:
        assert report.rows == [
            ("one", "2 and 2", "1 and 1; without gpu"),
            ("two", *["1 and 1; cuda from source"] * 2),
        ]


def test_an_exemption_that_nothing_needs_fails(tool):
    resolve = tool("resolve")
    unused = (resolve.Exemption("cuda", resolve.PLATFORMS, source=True, reason="why"),)
    report = resolve.check(resolve.Project("3.10", {"one": ("numpy",)}), index((), ()), unused)
    assert report.failures == ["no extra needs cuda any more: delete its exemption."]
