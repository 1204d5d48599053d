"""A bundle appears whole or not at all, and none is lost."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from glass_edge.export.exporter import export_bundle
from glass_edge.export.options import ExportOptions
from glass_edge.runtime.bundle.making import new_bundle, put_in_place

from glass_edge import Bundle, InputError, OutputError

PROGRAM = Path(sys.executable).parent / "glass-export"


def stand_in(folder: Path, name: str) -> Path:
    """A folder that looks like a bundle; who made it is in it."""
    folder.mkdir(parents=True)
    (folder / "glass.json").write_text(name)
    return folder


def maker(folder: Path) -> str:
    return (folder / "glass.json").read_text()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestPlacing:
    def test_a_bundle_appears_at_the_end(self, tmp_path):
        with new_bundle(tmp_path / "vit.glass", force=False) as folder:
            (folder / "glass.json").write_text("new")
            assert not (tmp_path / "vit.glass").exists()
        assert names(tmp_path) == ["vit.glass"]
        assert names(tmp_path / "vit.glass") == ["glass.json"]

    def test_one_that_is_replaced_is_there_until_the_end(self, tmp_path):
        target = stand_in(tmp_path / "vit.glass", "old")
        with new_bundle(target, force=True) as folder:
            (folder / "glass.json").write_text("new")
            assert maker(target) == "old"
        assert maker(target) == "new"
        assert names(tmp_path) == ["vit.glass"]

    def test_an_error_leaves_everything_as_it_was(self, tmp_path):
        target = stand_in(tmp_path / "vit.glass", "old")
        with pytest.raises(KeyboardInterrupt), new_bundle(target, force=True):
            raise KeyboardInterrupt
        assert maker(target) == "old"
        assert names(tmp_path) == ["vit.glass"]

    def test_a_bundle_that_cannot_be_renamed_brings_the_old_one_back(self, tmp_path):
        target = stand_in(tmp_path / "vit.glass", "old")
        (tmp_path / ".hidden").mkdir()
        with pytest.raises(FileNotFoundError):
            put_in_place(tmp_path / ".hidden/gone", target, tmp_path / ".hidden", force=True)
        assert maker(target) == "old"

    def test_without_force_nothing_is_replaced(self, tmp_path):
        """Not even what appears after the last look."""
        target = stand_in(tmp_path / "vit.glass", "old")
        folder = stand_in(tmp_path / ".hidden" / "vit.glass", "new")
        with pytest.raises(OSError, match="not empty"):
            put_in_place(folder, target, tmp_path / ".hidden", force=False)
        assert maker(target) == "old"

    def test_where_another_appears_in_its_place_the_old_one_gets_another_name(
        self, tmp_path, monkeypatch
    ):
        """A program that writes there between the two renames."""
        target = stand_in(tmp_path / "vit.glass", "old")
        folder = stand_in(tmp_path / ".vit.glass.1" / "vit.glass", "new")
        rename = Path.rename

        def rename_and_write(path: Path, to: Path) -> Path:
            renamed = rename(path, to)
            if path == target:
                stand_in(target, "other")
            return renamed

        monkeypatch.setattr(Path, "rename", rename_and_write)
        kept = tmp_path / "vit.glass.1"
        with pytest.raises(OutputError, match=f"the bundle that was there is {kept} now"):
            put_in_place(folder, target, folder.parent, force=True)
        assert maker(target) == "other"
        assert maker(kept) == "old"

    def test_a_bundle_that_appears_meanwhile_stays(self, checkpoints, vit_bundle, tmp_path):
        target = tmp_path / "vit.glass"

        @contextmanager
        def another_is_faster(label: str) -> Iterator[object]:
            if not target.exists():
                shutil.copytree(vit_bundle.path, target)
            yield lambda done, total, what="": None

        with pytest.raises(InputError, match="exists already"):
            export_bundle(checkpoints["vit"], target, ExportOptions(crops=3), another_is_faster)
        assert Bundle.open(target).digest == vit_bundle.digest
        assert names(tmp_path) == ["vit.glass"]


class TestLeftovers:
    """Of exports that were killed so that they could not tidy up."""

    def test_are_removed_by_the_next_export_to_the_same_target(self, tmp_path):
        stand_in(tmp_path / ".vit.glass.abc" / "vit.glass", "half")
        stand_in(tmp_path / ".vit.glass.int8.abc" / "vit.glass.int8", "another target's")
        with new_bundle(tmp_path / "vit.glass", force=False):
            pass
        assert names(tmp_path) == [".vit.glass.int8.abc", "vit.glass"]

    def test_bring_back_what_they_replaced(self, tmp_path):
        stand_in(tmp_path / ".vit.glass.abc" / "replaced", "old")
        with (
            pytest.raises(InputError, match="--force"),
            new_bundle(tmp_path / "vit.glass", force=False),
        ):
            pass
        assert maker(tmp_path / "vit.glass") == "old"
        assert names(tmp_path) == ["vit.glass"]

    def test_an_export_that_lives_keeps_its_folder(self, tmp_path):
        target = tmp_path / "vit.glass"
        with new_bundle(target, force=False) as first:
            (first / "glass.json").write_text("first")
            with pytest.raises(KeyboardInterrupt), new_bundle(target, force=False):
                raise KeyboardInterrupt
        assert maker(target) == "first"
        assert names(tmp_path) == ["vit.glass"]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_export_that_is_told_to_end_leaves_nothing(number, code, checkpoints, tmp_path):
    command = [PROGRAM, checkpoints["vit"], "-o", "vit.glass"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not list(tmp_path.glob(".vit.glass.*/vit.glass/*.onnx")):
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert said.strip().endswith("Error: interrupted.")
    assert names(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from glass_edge.runtime.bundle.making import new_bundle

with new_bundle(Path("vit.glass"), force=False) as folder:
    (folder / "global.onnx").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_export_leaves_no_bundle_and_the_next_one_tidies_up(checkpoints, tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".vit.glass.")
    export_bundle(checkpoints["vit"], tmp_path / "vit.glass", ExportOptions())
    assert names(tmp_path) == ["vit.glass"]
