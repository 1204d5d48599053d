"""Judges images with a bundle on ONNX Runtime, and notes on what machine and how long it took.

``make aarch64`` runs it twice, here and in an emulated Debian, and compares what it writes.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
from pathlib import Path

import msgspec
from glass_edge.runtime.machine.environment import Environment, environment

RECORDS, SIDE = "records.jsonl", "side.json"


class Side(msgspec.Struct, frozen=True):
    """Where images were judged: the system, the machine, and the seconds that it took.

    ``emulator`` is what carried out another processor's instructions; null on real hardware.
    """

    system: str
    environment: Environment
    seconds: float
    emulator: str | None = None


def system_name() -> str:
    """Return the name of the system, and on Debian its point release."""
    name = platform.freedesktop_os_release()["PRETTY_NAME"]
    try:
        release = Path("/etc/debian_version").read_text(encoding="utf-8").strip()
    except OSError:
        return name
    return f"{name}, {release}" if name.startswith("Debian") else name


def judge(bundle: Path, images: Path, folder: Path, emulator: str | None = None) -> None:
    """Write the records of all images below a folder, and a description of the machine.

    Args:
        bundle: the bundle.
        images: the folder of images; records name them as it is given.
        folder: where both files are written.
        emulator: what carries out the instructions, if it is no processor.

    Raises:
        subprocess.CalledProcessError: glass-run failed; it has said why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program = Path(sys.executable).parent / "glass-run"
    command = [str(program), str(images), "--bundle", str(bundle), "--engine", "onnxruntime",
               "--output", str(folder / RECORDS), "--force"]  # fmt: skip
    start = time.perf_counter()
    subprocess.run(command, check=True)  # noqa: S603, no shell reads it
    seconds = time.perf_counter() - start
    side = Side(system_name(), environment(), round(seconds, 1), emulator)
    (folder / SIDE).write_bytes(msgspec.json.format(msgspec.json.encode(side), indent=1) + b"\n")


def main() -> int:
    """Read the command line and judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("folder", type=Path, help="where records.jsonl and side.json are written")
    parser.add_argument("--emulator", help="what carries out the instructions")
    given = parser.parse_args()
    try:
        judge(given.bundle, given.images, given.folder, given.emulator)
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
