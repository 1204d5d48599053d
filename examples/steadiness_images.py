"""Make the pictures that stopping rules were calibrated and tried on.

    python examples/steadiness_images.py sources evidence/autoencoder.safetensors photographs

``steadiness.csv`` lists 1,000 photographs by the SHA-256 of their files, and where they come from:
camera pictures, sample pictures of ImageNet's classes, and photographs that come with npm and
Debian packages. ``sources`` is a folder with all of these, searched recursively. None was used to
train the networks. Each picture is used once, as a photograph or as its machine-made twin, and is
encoded alike in either case; half of them are for calibration, and half for the test.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from pathlib import Path

import numpy as np
from machine_made import Autoencoder, machine_made
from PIL import Image, ImageOps
from safetensors.torch import load_file

LIST = Path(__file__).parent / "steadiness.csv"
LONGEST_SIDE = 2048  # pixels


def find_files(sources: Path) -> dict[str, Path]:
    """Return the files of a folder by the SHA-256 of their content."""
    files = (path for path in sources.rglob("*") if path.is_file())
    return {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in files}


def read_picture(path: Path) -> np.ndarray:
    """Read a picture as it is looked at, at most 2,048 pixels long."""
    picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("sources", type=Path, help="folder with the unpacked packages")
    parser.add_argument("autoencoder", type=Path, help="made by train_evidence.py")
    parser.add_argument("output", type=Path, help="gets calibrate/ and test/")
    arguments = parser.parse_args()

    model = Autoencoder()
    model.load_state_dict(load_file(arguments.autoencoder))
    model.eval()
    files = find_files(arguments.sources)
    with open(LIST, newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file)):
            rgb = read_picture(files[row["sha256"]])
            if row["label"] == "fake":
                rgb = machine_made(model, rgb)
            place = arguments.output / row["split"] / row["label"] / f"{number:04d}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rgb).save(place, quality=int(row["quality"]))


if __name__ == "__main__":
    main()
