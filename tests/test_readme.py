"""The README's commands run, and their output is what it shows."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import detector_files
import numpy as np
import pytest
from conftest import EXAMPLES, ROOT, call
from object_storage import object_storage_fixture  # noqa: F401
from PIL import Image
from safetensors.torch import save_file
from serving import serving

README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = Path(sys.executable).parent
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
OURS = (
    *("glass-batch", "glass-calibrate", "glass-eval", "glass-export", "glass-quantize"),
    *("glass-report", "glass-run"),
)
DEMO, RECORD = (text for kind, text in BLOCKS if kind == "text")
LEFT_OUT = "…"


def run(command: str, place: Path):
    environment = os.environ | {"PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        command, shell=True, cwd=place, env=environment, capture_output=True, text=True
    )


def printed(command: str, place: Path) -> str:
    """Run one of our programs or scripts, without a shell's pipes, and return what it prints."""
    program, *arguments = shlex.split(command.replace("\\\n", ""), comments=True)
    done = call(program, place, *arguments) if program in OURS else run(command, place)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory, checkpoints, photographs, calibration_images) -> Path:
    """A working directory with the files that the README speaks of."""
    place = tmp_path_factory.mktemp("readme")
    shutil.copy(checkpoints["vit"], place / "gl_vit.pt")
    save_file(detector_files.community_forensics(), place / "commfor.safetensors")
    (place / "images").mkdir()
    shutil.copy(photographs[2], place / "images" / "a.jpg")
    shutil.copy(photographs[3], place / "images" / "b.png")
    shutil.copytree(calibration_images, place / "photographs")
    for path in calibration_images.iterdir():
        kind, _, name = path.name.partition("-")
        (place / "labelled" / kind).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place / "labelled" / kind / name)
    shutil.copytree(EXAMPLES, place / "examples" / "images")
    shutil.copy(ROOT / "examples" / "demo.safetensors", place / "examples")
    return place


@pytest.fixture(scope="module")
def demo(place) -> str:
    """What ``make demo`` prints once everything is installed: its commands and their output."""
    recipe = subprocess.run(
        ["make", "-n", "-W", "README.md", "demo"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    text = ""
    for command in re.findall(r"(?:mkdir|\S*bin/glass-)(?:.*\\\n)*.*\n", recipe):
        text += command + printed(command.replace(f"{PROGRAMS.relative_to(ROOT)}/", ""), place)
    return text


def test_the_demo_prints_what_is_shown(demo):
    assert_shows(DEMO, demo)


def test_the_record_is_the_one_shown(demo, place):
    (command,) = (line for line in COMMANDS if "dandelions" in line)
    done = run(command, place)
    assert done.returncode == 0, done.stderr
    assert_shows(" ".join(RECORD.split()), json.dumps(json.loads(done.stdout)))


def test_every_command_runs(demo, place, object_storage):
    object_storage.client.create_bucket(Bucket="bucket")
    for path in sorted((place / "images").iterdir()):
        object_storage.client.upload_file(str(path), "bucket", f"photos/{path.name}")
    shutil.make_archive(str(place / "photos"), "tar", place, "images")
    ours = [line for line in COMMANDS if line.startswith(OURS)]
    assert len(ours) >= 6
    for command in ours:
        # So few photographs show no smaller risk.
        printed(command.replace("glass-calibrate", "glass-calibrate --risk 0.5"), place)


def test_the_server_answers_what_is_asked_of_it(demo, place):
    """The command that serves, and the one that sends a photograph to it."""
    if not (place / "gl_vit.glass").exists():
        printed("glass-export gl_vit.pt -o gl_vit.glass", place)
    (served,) = (line for line in COMMANDS if line.startswith("glass-serve"))
    (sent,) = (line for line in COMMANDS if line.startswith("curl"))
    with serving(*shlex.split(served, comments=True)[1:], cwd=place) as server:
        done = run(sent.replace("http://127.0.0.1:8000", server.url), place)
    assert json.loads(done.stdout)["verdict"] in ("fake", "real")


def test_every_make_target_is_there():
    targets = [shlex.split(line, comments=True)[1] for line in COMMANDS if line.startswith("make ")]
    assert targets == ["demo"]
    for target in targets:
        assert subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True).returncode == 0


def test_the_python_example_runs(place):
    if not (place / "gl_vit.glass").exists():
        printed("glass-export gl_vit.pt -o gl_vit.glass", place)
    (example,) = (text for kind, text in BLOCKS if kind == "python")
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=place, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    judged, missing = done.stdout.splitlines()
    assert re.fullmatch(r"images/a\.jpg (fake|real)", judged)
    assert missing.startswith("images/missing.jpg ")
    assert "no such file" in missing


def test_the_demo_tells_fake_from_real(demo, place):
    """The photographs in examples/ and their twins were not seen in training."""
    verdicts = re.findall(r"^(fake|real) .*/(fake|real)/\w+\.jpg$", demo, flags=re.MULTILINE)
    assert len(verdicts) == 12
    assert sum(called == true for called, true in verdicts) >= 10


def test_the_picture_is_of_a_real_verdict(demo, place):
    """Drawn again it is the same but for the JPEG encoder and the fonts that Pillow brings."""
    script = ROOT / "tools" / "picture.py"
    command = runpy.run_path(str(script))["__doc__"].split("\n\n")[1].replace("\\\n", " ")
    _, _, *arguments, output = shlex.split(command)
    assert f"]({output})" in README
    printed(shlex.join(["python", str(script), *arguments, "drawn.jpg"]), place)
    with Image.open(ROOT / output) as shown, Image.open(place / "drawn.jpg") as drawn:
        assert shown.size == drawn.size
        assert np.abs(np.asarray(shown, float) - np.asarray(drawn, float)).mean() < 1
    assert (ROOT / output).stat().st_size < 300_000


def assert_shows(shown: str, real: str) -> None:
    """Compare text with what is shown of it, in which ``…`` stands for anything left out.

    Numbers may differ a little between machines; times and versions are not compared.
    """
    shown, real = _settled(shown), _settled(real)
    pattern, numbers = "", []
    for part in re.split(rf"({NUMBER}|{LEFT_OUT})", shown):
        if part == LEFT_OUT:
            pattern += ".*?"
        elif re.fullmatch(NUMBER, part):
            pattern += f"({NUMBER})"
            numbers.append(part)
        else:
            pattern += r"\s+".join(map(re.escape, re.split(r"\s+", part)))
    found = re.fullmatch(pattern, real, flags=re.DOTALL)
    assert found, f"not shown is:\n{real}"
    for one, other in zip(numbers, found.groups(), strict=True):
        assert is_close(one, other), f"{one} is shown, {other} was printed in:\n{real}"


NUMBER = r"\d+(?:\.\d+)?(?:e-?\d+)?"


def is_close(one: str, other: str) -> bool:
    """Whole numbers are equal; ``3.1e-06`` says how large something is; the rest is rounded."""
    if "e" in one:
        return 0.1 < float(one) / float(other) < 10
    if "." in one:
        places = len(one.partition(".")[2])
        return float(one) == pytest.approx(float(other), abs=max(2e-3, 1.5 * 10**-places))
    return one == other


def _settled(text: str) -> str:
    """Leave out what no two runs have in common."""
    text = re.sub(r"in [\d.]+ s \([\d.]+ images/s\)", "in TIME", text)
    text = re.sub(r"@[0-9a-f]{12}", "@DIGEST", text)
    text = re.sub(r"(onnxruntime|openvino) [\d.]+ cpu", "ENGINE", text)
    return text.strip()


@pytest.mark.parametrize(
    ("shown", "real"),
    [
        ("fake 0.9618", "fake 0.9518"),
        ("fake 0.9618", "real 0.9618"),
        ("logit 3.1e-06", "logit 3.1e-04"),
        ("4 crops", "6 crops"),
        ("7 fake, … 0 errors", "7 fake, 5 real, 1 errors"),
        ("one line", "one line\nand another"),
    ],
)
def test_a_difference_is_seen(shown, real):
    assert_shows(shown, shown.replace(LEFT_OUT, "anything"))
    with pytest.raises(AssertionError):
        assert_shows(shown, real)
