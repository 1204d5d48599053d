"""Where a path is not there, one that is like it is proposed."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from glass_edge.benchmarks.evaluation.cli import main as evaluate
from glass_edge.runtime.commands.inputs import note_missing
from glass_edge.runtime.finding.files import did_you_mean


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("images", "gl_vit.glass"):
        (tmp_path / name).mkdir()
    (tmp_path / "images" / "cat.jpg").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "suffix", "hint"),
    [
        ("imges", "", " Did you mean images?"),
        ("images/cta.jpg", "", " Did you mean images/cat.jpg?"),
        ("gl_vti.glass", ".glass", " Did you mean gl_vit.glass?"),
        ("imges", ".glass", ""),
        ("elsewhere", "", ""),
        ("nowhere/cat.jpg", "", ""),
    ],
)
def test_the_most_alike_name_in_the_same_folder(path, suffix, hint, place):
    assert did_you_mean(path, suffix) == hint


def test_of_an_image_it_is_a_note_beside_its_record(place, capsys):
    note_missing(["images/cat.jpg", "images/cta.jpg"])
    assert capsys.readouterr().err == (
        "Note: there is no images/cta.jpg. Did you mean images/cat.jpg?\n"
    )
    note_missing(["images/cat.jpg", "images/*.jpg", "-"])
    assert capsys.readouterr().err == ""


def test_names_in_it_cannot_drive_the_terminal(place, capsys):
    (place / "images" / "d\x1bog.jpg").touch()
    note_missing(["images/dog.jpg"])
    assert r"Did you mean images/d\x1bog.jpg?" in capsys.readouterr().err


def test_of_a_folder_it_is_part_of_the_refusal(place):
    done = CliRunner().invoke(evaluate, ["imges"])
    assert done.exit_code == 2
    assert "Directory 'imges' does not exist. Did you mean images?" in done.output
