"""Views are made in threads, within a budget of memory."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from glass_edge.export.paper import glass_views
from glass_edge.runtime.images.encoded import DecodeOptions
from glass_edge.runtime.machine.timings import Timings
from glass_edge.runtime.streaming.orders import Look
from glass_edge.runtime.streaming.view_maker import ByteBudget, ViewMaker
from glass_edge.runtime.views.batch import Sampling, ViewBatch
from PIL import Image
from waiting import PATIENCE, until

linux = pytest.mark.skipif(sys.platform != "linux", reason="measures by /proc")
SPEC = glass_views(224, 4)


def make_views(batch, contents, threads, *, memory=1 << 28):
    """Make the views of images in so many threads, all by one maker."""
    maker = ViewMaker(
        threads=threads,
        memory=memory,
        decode=DecodeOptions(10**9),
        timings=Timings(),
    )
    with ThreadPoolExecutor(threads) as pool:
        make = partial(maker.make, look=Look(Sampling(SPEC)))
        return list(pool.map(make, [batch] * len(contents), range(len(contents)), contents))


def test_the_budget_holds_back_what_would_exceed_it_and_what_came_later():
    """Else a large image might wait for ever, while small ones come and go."""
    budget, entered = ByteBudget(100), []

    def hold(size: int) -> None:
        with budget.holding(size):
            entered.append(size)

    with budget.holding(60):
        hold(40)
        large = threading.Thread(target=hold, args=(50,))
        small = threading.Thread(target=hold, args=(40,))
        for waiting, thread in enumerate((large, small), 1):
            thread.start()
            until(lambda: len(budget._waiting) == waiting)  # noqa: B023
        assert entered == [40]
    large.join(PATIENCE)
    small.join(PATIENCE)
    assert entered == [40, 50, 40]


def test_what_exceeds_the_whole_budget_goes_alone():
    budget = ByteBudget(100)
    with budget.holding(1000):
        late = threading.Thread(target=lambda: budget.holding(1).__enter__())
        late.start()
        late.join(0.05)
        assert late.is_alive()
    late.join(5)
    assert not late.is_alive()


@pytest.mark.parametrize("memory", [1, 1 << 20, 1 << 30])
@pytest.mark.parametrize("threads", [1, 4])
def test_threads_buffers_and_budget_do_not_change_views(memory, threads, photographs):
    """Buffers are reused between images of different sizes; nothing of one reaches another."""
    paths = [path for path in photographs if path.name != "twelve-megapixels.jpg"] * 3
    expected, batch = ViewBatch(len(paths), SPEC), ViewBatch(len(paths), SPEC)
    for slot, path in enumerate(paths):
        rgb = np.asarray(Image.open(path).convert("RGB"))
        expected.fill(slot, rgb, Sampling(SPEC))
    infos = make_views(batch, [path.read_bytes() for path in paths], threads, memory=memory)
    assert all(draw.placements for info in infos for draw in info.draws)
    assert np.array_equal(batch.views["local"], expected.views["local"])
    assert np.array_equal(batch.views["global"], expected.views["global"])


# Not by getrusage: a child's figure begins with its parent's memory.
MEASURE = """
import sys
from pathlib import Path
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from glass_edge.runtime.images.encoded import DecodeOptions
from glass_edge.runtime.streaming.orders import Look
from glass_edge.runtime.streaming.view_maker import ViewMaker
from glass_edge.runtime.machine.timings import Timings
from glass_edge.runtime.views.batch import Sampling, ViewBatch
from glass_edge.export.paper import glass_views

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

spec = glass_views(224, 10)
small, large, count, memory = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
batch = ViewBatch(8, spec)
batch.views["local"][:], batch.views["global"][:] = 1, 1  # else the system gives its memory later
maker = ViewMaker(threads=4, memory=memory, decode=DecodeOptions(10**9), timings=Timings())
look = Look(Sampling(spec))
with ThreadPoolExecutor(4) as pool:
    def make(slot, path):
        return pool.submit(lambda: maker.make(batch, slot, Path(path).read_bytes(), look))

    make(0, small).result()
    before = peak()
    for future in [make(slot, large) for slot in range(count)]:
        future.result()
print(peak() - before)
"""


@pytest.fixture(scope="module")
def hundred_megapixels(tmp_path_factory, photograph) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.jpg"
    photograph.resize((12000, 8400)).save(path, quality=85)
    return path


def peak_growth(large: Path, small: Path, *, images: int, memory: int) -> int:
    command = [sys.executable, "-c", MEASURE, small, large, str(images), str(memory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


DECODED = 12000 * 8400 * 3  # bytes


@linux
def test_a_large_image_takes_little_more_than_its_pixels(hundred_megapixels, photographs):
    growth = peak_growth(hundred_megapixels, photographs[2], images=1, memory=1 << 30)
    assert DECODED < growth < 1.3 * DECODED


@linux
@pytest.mark.slow
def test_a_folder_of_large_images_stays_within_the_budget(hundred_megapixels, photographs):
    """Four threads, eight images of 300 MB decoded, room for one."""
    growth = peak_growth(hundred_megapixels, photographs[2], images=8, memory=400 << 20)
    assert DECODED < growth < 1.3 * DECODED


@linux
@pytest.mark.slow
def test_what_decoders_take_besides_is_within_the_budget(tmp_path, photograph, photographs):
    """Four threads, an image of 180 MB for each whose decoder takes 450 MB, room for one.

    Besides, each thread keeps what resampling needs, 16 MB, and some of what the C library had.
    Files are not counted either.
    """
    large = tmp_path / "large.tiff"
    photograph.resize((10000, 6000)).save(large, compression="jpeg")
    growth = peak_growth(large, photographs[2], images=4, memory=450_000_000)
    assert 180_000_000 < growth < 450_000_000 + 4 * 40_000_000


LIMITED = """
import resource, sys
from glass_edge import ImageError
from glass_edge.runtime.images.reading import read_image
from glass_edge.runtime.images.encoded import DecodeOptions
from glass_edge.runtime.streaming.orders import Look
from glass_edge.runtime.streaming.view_maker import ViewMaker
from glass_edge.runtime.machine.timings import Timings
from glass_edge.runtime.views.batch import Sampling, ViewBatch
from glass_edge.export.paper import glass_views

small, large, memory, isolate = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "True"
spec = glass_views(224, 4)
batch = ViewBatch(1, spec)
maker = ViewMaker(threads=1, memory=memory, decode=DecodeOptions(10**9), timings=Timings(),
                  isolate=isolate)
look = Look(Sampling(spec))
maker.make(batch, 0, read_image(small), look)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20), -1))
try:
    maker.make(batch, 0, read_image(large), look)
except ImageError as error:
    print(error)
maker.make(batch, 0, read_image(small), look)
maker.close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize(
    ("memory", "isolate", "sentence"),
    [
        (1, False, "takes more memory than is left"),  # the decoder's own
        (4 << 30, False, "takes more memory than is left"),  # the buffer that is kept
        (1, True, "its pixels cannot be shared"),
    ],
)
def test_an_image_for_which_memory_is_not_left_is_an_error_and_the_next_is_not(
    memory, isolate, sentence, hundred_megapixels, photographs
):
    arguments = map(str, (photographs[2], hundred_megapixels, memory, isolate))
    command = [sys.executable, "-c", LIMITED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sentence in done.stdout


def test_a_mosaic_of_every_format_in_one_pool(photograph):
    picture = photograph.resize((500, 400))
    contents = []
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"):
        buffer = io.BytesIO()
        picture.save(buffer, kind)
        contents.append(buffer.getvalue())
    batch = ViewBatch(len(contents), SPEC)
    infos = make_views(batch, contents, 3)
    assert {(info.width, info.height) for info in infos} == {(500, 400)}
