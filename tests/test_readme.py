"""The README's commands run, and its output is what they print."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import EXAMPLES, ROOT
from glass_edge.runtime.machine.cuda import gpu_present

README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = Path(sys.executable).parent
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if line]


def run(command: str, place: Path):
    environment = os.environ | {"PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        command, shell=True, cwd=place, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory, checkpoints, photographs, calibration_images) -> Path:
    """A working directory with the files that the README speaks of."""
    place = tmp_path_factory.mktemp("readme")
    shutil.copy(checkpoints["vit"], place / "gl_vit.pt")
    (place / "images").mkdir()
    shutil.copy(photographs[2], place / "images" / "a.jpg")
    shutil.copy(photographs[3], place / "images" / "b.png")
    shutil.copytree(calibration_images, place / "photographs")
    for path in calibration_images.iterdir():
        kind, _, name = path.name.partition("-")
        (place / "labelled" / kind).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place / "labelled" / kind / name)
    return place


def test_every_command_runs(place):
    ours = [line for line in COMMANDS if line.startswith("glass-")]
    assert len(ours) >= 6
    for command in ours:
        done = run(command, place)
        if "--engine tensorrt" in command and not gpu_present():
            assert done.returncode == 2
            assert "tensorrt is not installed" in done.stderr
        else:
            assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_every_make_target_is_there():
    targets = [shlex.split(line, comments=True)[1] for line in COMMANDS if line.startswith("make ")]
    assert targets == ["demo", "test"]
    for target in targets:
        assert subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True).returncode == 0


def test_the_python_example_runs(place):
    if not (place / "gl_vit.glass").exists():
        assert run("glass-export gl_vit.pt", place).returncode == 0
    (example,) = (text for kind, text in BLOCKS if kind == "python")
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=place, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["ok", "error"]


def demo_commands() -> list[str]:
    """The commands that ``make demo`` runs, without those that set up the environment."""
    dry = subprocess.run(
        ["make", "-n", "-W", "README.md", "demo"], cwd=ROOT, capture_output=True, text=True
    )
    lines = dry.stdout.replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if re.search(r"bin/glass-", line)]


def test_the_demos_output_is_the_real_one(tmp_path):
    export, judge = (re.sub(r"\S*/bin/(glass-)", r"\1", command) for command in demo_commands())
    shutil.copytree(EXAMPLES, tmp_path / "examples" / "images")
    shutil.copy(ROOT / "examples" / "demo.safetensors", tmp_path / "examples")
    (tmp_path / "build-demo").mkdir()
    exported, judged = run(export, tmp_path), run(judge, tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert judged.returncode == 0, judged.stderr
    shown = next(text for kind, text in BLOCKS if kind == "text" and "P(fake)" in text)
    for line in judged.stdout.splitlines()[1:]:
        verdict, score, pixels, path = line.split()
        match = re.search(rf"^{verdict} +(\S+) +{pixels} +{path}$", shown, flags=re.MULTILINE)
        assert match, f"the README does not show: {line}"
        assert float(match[1]) == pytest.approx(float(score), abs=2e-3)
    assert shown.count("examples/images/") == len(judged.stdout.splitlines()) - 1
    for line in exported.stdout.splitlines():
        name = line.split()[0]
        assert re.search(rf"^{name} +\S", shown, flags=re.MULTILINE), name


def test_the_demo_tells_fake_from_real(tmp_path):
    """The photographs in examples/ and their twins were not seen in training."""
    from glass_edge.export import paper
    from glass_edge.export.exporter import ExportOptions, export_bundle

    from glass_edge import Detector

    options = ExportOptions(
        backbone="timm/tf_efficientnet_lite0", crops=4, normalisation=paper.NORMALISATION
    )
    bundle = export_bundle(ROOT / "examples" / "demo.safetensors", tmp_path / "demo.glass", options)
    verdicts = Detector(bundle).detect(sorted(EXAMPLES.glob("*/*.jpg")))
    right = [verdict.verdict == Path(str(verdict.path)).parent.name for verdict in verdicts]
    assert len(right) == 12
    assert sum(right) >= 10


def test_the_record_shown_is_a_record():
    from glass_edge.runtime.results.records import record_schema
    from jsonschema import Draft202012Validator

    shown = next(text for kind, text in BLOCKS if kind == "text" and '"path"' in text)
    Draft202012Validator(record_schema()).validate(json.loads(shown))


def test_the_figures_in_the_docs_are_those_of_the_reports():
    import msgspec
    from glass_edge.benchmarks.views.decoders import DecodersReport
    from glass_edge.benchmarks.views.measure import ViewsReport

    page = (ROOT / "docs" / "views.md").read_text(encoding="utf-8")
    reports = ROOT / "docs" / "reports"
    views = msgspec.json.decode((reports / "views.json").read_bytes(), type=ViewsReport)
    decoders = msgspec.json.decode((reports / "decoders.json").read_bytes(), type=DecodersReport)
    assert views.summary() in page
    assert views.threads_table() in page
    assert decoders.table() in page
    assert (reports / "views.md").read_text() == views.to_markdown()
    assert (reports / "decoders.md").read_text() == decoders.to_markdown()
    for report in (views, decoders):
        assert report.command in page
        assert report.environment.processor in page


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("examples/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
