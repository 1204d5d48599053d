"""glass-batch on Ray: every image is judged once, whatever is lost, and as without Ray."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import EXAMPLES, Done
from object_storage import started
from PIL import Image
from ray_cluster import RayCluster, ray_cluster

BATCH = [sys.executable, "-c", "from glass_edge.runtime.commands.batch import main; main()"]
OPTIONS = ("-b", "model.glass", "--crops", "64", "--engine", "onnxruntime")
IMAGES, IN_SHARD = 200, 10
SHARDS = IMAGES // IN_SHARD


def make_photographs(folder: Path) -> None:
    """Cut small photographs, no two alike, out of the examples."""
    folder.mkdir()
    wide, high = 320, 240
    sources = [Image.open(path).convert("RGB") for path in sorted(EXAMPLES.rglob("*.jpg"))]
    for number in range(IMAGES):
        turn, which = divmod(number, len(sources))
        source = sources[which]
        left, top = turn * 37 % (source.width - wide), turn * 53 % (source.height - high)
        source.crop((left, top, left + wide, top + high)).save(folder / f"{number:03}.jpg")


def batch(place: Path, *arguments: object) -> Done:
    command = [*BATCH, *map(str, arguments)]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300)


def judging(place: Path, out: str, *more: object) -> subprocess.Popen[str]:
    command = [*BATCH, "run", "plan.jsonl", *OPTIONS, "-o", out, *map(str, more)]
    return subprocess.Popen(
        command, cwd=place, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory, vit_bundle) -> Path:
    """A bundle, photographs, their plan, and what is said of them without Ray."""
    place = tmp_path_factory.mktemp("place")
    (place / "model.glass").symlink_to(vit_bundle.path)
    make_photographs(place / "images")
    done = batch(place, "plan", "images", "-o", "plan.jsonl", "--images", IN_SHARD)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster(environment=started().environment) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def alone(place) -> Path:
    done = batch(place, "run", "plan.jsonl", *OPTIONS, "-o", "alone")
    print(done.stderr)
    assert done.returncode == 0, done.stderr
    return place / "alone"


def parts(out: Path) -> list[Path]:
    return sorted(out.glob("part-*"))


def test_x(place, alone, cluster):
    r = judging(place, "out", "--ray", cluster.address)
    seen = set()
    import time

    t = time.time()
    while r.poll() is None:
        seen |= set(cluster.judging().items())
        time.sleep(0.02)
    print(time.time() - t, seen, r.communicate(), r.returncode)
    assert 0, "x"
