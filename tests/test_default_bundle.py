"""A bundle that nobody named never comes from where the images come from, and is always said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from glass_edge.benchmarks.evaluation.cli import main as evaluate
from glass_edge.calibration.commands.quantize import main as quantize
from glass_edge.runtime.bundle.finding import find_bundle
from glass_edge.runtime.commands.build import main as build
from glass_edge.runtime.commands.run import main as run
from glass_edge.runtime.machine.errors import InputError

PROGRAM = Path(sys.executable).parent / "glass-run"
UNASKED = "model.glass is not used unasked"


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vit_bundle, photographs) -> Path:
    """A working directory with a bundle, an image and a folder of images; and others beside it."""
    folder = tmp_path / "downloads"
    for place in (folder / "images", tmp_path / "others"):
        place.mkdir(parents=True)
        (place / "b.png").symlink_to(photographs[0])
    (folder / "model.glass").symlink_to(vit_bundle.path)
    (folder / "a.png").write_bytes(photographs[0].read_bytes())
    (folder / "itself").symlink_to(".")
    (tmp_path / "others" / "link").symlink_to("../downloads")
    (tmp_path / "others" / "link.png").symlink_to("../downloads/a.png")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("GLASS_BUNDLE", raising=False)
    return folder


@pytest.mark.parametrize(
    "images",
    [
        (".",),
        ("./",),
        ("..",),
        ("itself",),
        ("images/..",),
        ("../others",),
        ("../others/",),
        ("../other*",),
        ("../others/link",),
        ("../others/link/images/..",),
        ("a.png",),
        ("./a.png",),
        ("missing.png",),
        ("images/../a.png",),
        ("../others/link/a.png",),
        ("../others/link.png",),
        ("*.png",),
        ("**/*.png",),
        ("*",),
        ("**",),
        ("../*",),
        ("../*/a.png",),
        ("model.glass",),
        ("model.glass/reference.png",),
        ("images", "a.png"),
        ("-",),
    ],
)
def test_it_is_not_taken_from_among_the_images(images, downloads):
    with pytest.raises(InputError, match=f"{UNASKED}, because .*--bundle model.glass"):
        find_bundle(Path.cwd(), images)
    if images != ("-",):
        with pytest.raises(InputError, match=UNASKED):
            find_bundle(Path.cwd(), [str(downloads / each) for each in images])


@pytest.mark.parametrize(
    "images",
    [
        (),
        ("images",),
        ("images/",),
        ("./images",),
        ("images/b.png",),
        ("images/*.png",),
        ("images/**",),
        ("*/*.jpg",),
        ("../others/b.png",),
        ("../others/b*",),
        ("nowhere/c.png",),
    ],
)
def test_it_may_lie_above_or_beside_the_folder_of_the_images(images, downloads):
    for arguments in (images, [str(downloads / each) for each in images]):
        assert find_bundle(Path.cwd(), arguments).name == "model.glass"


@pytest.mark.parametrize("command", [run, evaluate])
def test_every_command_that_takes_images_refuses(command, downloads):
    done = CliRunner().invoke(command, ["."])
    assert done.exit_code == 2
    assert UNASKED in done.output
    assert "Traceback" not in done.output


def test_nor_does_glass_quantize_take_it_from_among_the_images_to_calibrate_on(downloads):
    done = CliRunner().invoke(quantize, ["--precision", "int8", "--calibrate", "."])
    assert done.exit_code == 2
    assert UNASKED in done.output
    assert done.output.endswith("if you trust it, name it.\n")  # as the argument


def test_a_command_without_the_option_does_not_advise_it(downloads):
    (downloads / "other.glass").mkdir()
    for command in (quantize, build):
        options = ["--precision", "fp16"] if command is quantize else []
        done = CliRunner().invoke(command, options)
        assert done.exit_code == 2
        assert "several bundles are here (model.glass, other.glass): choose one." in done.output


def glass_run(*arguments: str, **environment: str):
    return subprocess.run(
        [PROGRAM, *arguments], env=os.environ | environment, capture_output=True, text=True
    )


def test_which_it_is_comes_first(downloads, vit_bundle):
    for image in ("images", "images/c.png"):
        assert glass_run(image).stderr.splitlines()[0] == "bundle: model.glass"
    done = glass_run("a.png", GLASS_BUNDLE=str(vit_bundle.path))
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == f"bundle: {vit_bundle.path}"
    done = glass_run("a.png", "--bundle", "model.glass")
    assert done.returncode == 0, done.stderr
    assert "bundle: " not in done.stderr


def test_a_refused_bundle_is_not_even_opened(downloads):
    (downloads / "model.glass").unlink()
    (downloads / "model.glass").mkdir()
    done = glass_run("a.png")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "Error: model.glass is not used unasked, because it lies among the images to judge and may "
        "have come with them: if you trust it, name it with --bundle model.glass.\n"
    )


def test_a_name_like_it_is_proposed(downloads):
    done = glass_run("images", "--bundle", "modle.glass")
    assert done.returncode == 2
    assert "no such folder; make one with glass-export. Did you mean model.glass?" in done.stderr
    assert "Did you mean" not in glass_run("images", "--bundle", "quite-another.glass").stderr
