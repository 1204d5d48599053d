"""--isolate: decoders that crash or hang cost an image its verdict, and nothing else."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import encoded, slow
from glass_edge.export.paper import glass_views
from glass_edge.runtime.claims.claims import ClaimOptions, Claims, Credentials, Provenance
from glass_edge.runtime.claims.reading import read_claims
from glass_edge.runtime.images.decode import decode
from glass_edge.runtime.images.encoded import DecodeOptions
from glass_edge.runtime.isolation import decoder as module
from glass_edge.runtime.isolation.decoder import IsolatedDecoder
from glass_edge.runtime.isolation.protocol import LOOK
from glass_edge.runtime.isolation.protocol import request as request_of
from glass_edge.runtime.machine.interpreter import python_command
from glass_edge.runtime.machine.timings import Timings
from glass_edge.runtime.streaming.orders import Look
from glass_edge.runtime.streaming.view_maker import ViewMaker
from glass_edge.runtime.views.batch import Sampling, ViewBatch
from PIL import Image
from signed import new_signer, signed

from glass_edge import Detector, DetectorOptions, Failure, ImageError

pytestmark = pytest.mark.usefixtures("every_cpu")

LIMIT = 10**8


@pytest.fixture
def decoder():
    decoder = IsolatedDecoder()
    yield decoder
    decoder.close()


def test_pixels_are_the_same(decoder, photographs):
    for path in [*photographs, photographs[0]]:
        content = path.read_bytes()
        image = decoder.read_header(content, DecodeOptions(LIMIT))
        expected = decode(content)
        assert (image.height, image.width) == expected.shape[:2]
        assert np.array_equal(image.decode().rgb, expected)


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "the file is empty"), (b"no image", "the file is not an image")]
)
def test_errors_are_the_same(content, words, decoder):
    with pytest.raises(ImageError, match=words):
        decoder.read_header(content, DecodeOptions(LIMIT))


def test_the_limit_holds_there_too(decoder, photographs):
    pixels = decode(photographs[0].read_bytes())
    limit = pixels.shape[0] * pixels.shape[1] - 1
    with pytest.raises(ImageError, match=f"more than the limit of {limit}"):
        decoder.read_header(photographs[0].read_bytes(), DecodeOptions(limit))


def test_a_process_that_dies_is_an_error_and_is_started_again(decoder, photographs):
    content = photographs[0].read_bytes()
    image = decoder.read_header(content, DecodeOptions(LIMIT))
    assert decoder._process is not None
    os.kill(decoder._process.pid, signal.SIGSEGV)
    with pytest.raises(ImageError, match=r"its decoder crashed \(SIGSEGV\)"):
        image.decode()
    image = decoder.read_header(content, DecodeOptions(LIMIT))
    assert np.array_equal(image.decode().rgb, decode(content))


def test_one_that_hangs_is_stopped(photographs):
    """A stopped process answers as little as one that loops."""
    decoder = IsolatedDecoder()
    content = photographs[0].read_bytes()
    image = decoder.read_header(content, DecodeOptions(LIMIT))
    assert decoder._process is not None
    os.kill(decoder._process.pid, signal.SIGSTOP)
    decoder._seconds = 1
    with pytest.raises(ImageError, match="its decoder was stopped after 1 seconds"):
        image.decode()
    decoder._seconds = 60  # a process that is started anew may be slow
    assert decoder.read_header(content, DecodeOptions(LIMIT)).decode().rgb.size
    decoder.close()


MISBEHAVING = """
from fuzz.misbehave import act
from glass_edge.runtime.isolation import serving
serving.read_claims = lambda content, options: act({act!r})
serving.serve({{memory}}, {{seconds}})
"""
EVERY_CLAIM = ClaimOptions(orientation=True, provenance=True)


@pytest.mark.parametrize(
    ("act", "seconds", "code"),
    [
        (b"crash", 60, "the reader crashed (SIGABRT)"),
        slow(b"hang", 1, "the reader was stopped after 1 seconds"),
    ],
)
def test_claims_that_crash_or_hang_their_reader_cost_no_verdict(
    act, seconds, code, photographs, monkeypatch
):
    """Each image is read in a process that misbehaves, and decoded in another."""
    monkeypatch.setattr(module, "_SERVE", MISBEHAVING.format(act=act))
    decoder = IsolatedDecoder()
    for path in photographs[:2]:
        content = path.read_bytes()
        unread = Claims(1, Provenance(declared=(), c2pa=Credentials("unread", codes=(code,))))
        decoder._seconds = seconds
        assert decoder.read_claims(content, EVERY_CLAIM) == unread
        assert decoder.read_claims(content, ClaimOptions(orientation=True)) == Claims(1, None)
        decoder._seconds = 60  # a process that is started anew may be slow
        image = decoder.read_header(content, DecodeOptions(LIMIT))
        assert np.array_equal(image.decode().rgb, decode(content))
    decoder.close()


def test_claims_are_the_same(decoder, photograph):
    exif = Image.Exif()
    exif[274], exif[305] = 6, "Painter"
    signer = new_signer()
    content = encoded(photograph.resize((90, 60)), "JPEG", exif=exif)
    for each in (content, signed(content, "JPEG", signer), b"no image", b""):
        for options in (EVERY_CLAIM, ClaimOptions(provenance=True, trust_list=signer.root)):
            assert decoder.read_claims(each, options) == read_claims(each, options)
    image = decoder.read_header(content, DecodeOptions(LIMIT))
    assert decoder.read_claims(content, EVERY_CLAIM).orientation == 6
    assert np.array_equal(image.decode().rgb, decode(content))


HANGING = """
from glass_edge.runtime.isolation import serving

def hang(content, options):
    while True:
        pass

serving.read_header = hang
serving.serve(1, 0.5)
"""


def request(content: bytes) -> bytes:
    """What a decoder's process is asked when an image is looked at."""
    return request_of(LOOK, content, DecodeOptions(LIMIT))


def test_one_that_hangs_ends_by_itself_when_nobody_is_left_to_stop_it():
    done = subprocess.run([sys.executable, "-c", HANGING], input=request(b"file"), timeout=30)
    assert done.returncode == -signal.SIGALRM


def test_one_that_waits_for_work_does_not_end_by_itself(photographs):
    asked = request(photographs[0].read_bytes())
    serve = "from glass_edge.runtime.isolation.serving import serve; serve(1, 1)"
    process = subprocess.Popen(
        [sys.executable, "-c", serve], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    for pause in (1.5, 0):
        process.stdin.write(asked)
        process.stdin.flush()
        assert b"width" in process.stdout.readline()
        time.sleep(pause)
    process.communicate()
    assert process.returncode == 0


def trap(folder: Path) -> Path:
    """A folder whose modules end whoever imports them, named like those that glass-edge needs."""
    folder.mkdir()
    spring = "from pathlib import Path; Path('sprung').touch(); 1 / 0"
    for name in ("msgspec", "numpy", "glass_edge", "tensorrt_rtx", "struct"):
        (folder / f"{name}.py").write_text(spring)
    return folder


def test_no_code_is_taken_from_the_working_directory(photographs, tmp_path, monkeypatch):
    monkeypatch.chdir(trap(tmp_path / "downloads"))
    decoder = IsolatedDecoder()
    image = decoder.read_header(photographs[0].read_bytes(), DecodeOptions(LIMIT))
    assert np.array_equal(image.decode().rgb, decode(photographs[0].read_bytes()))
    decoder.close()
    assert not Path("sprung").exists()


def test_modules_are_found_where_the_caller_finds_them():
    """Also in places that only the running program knows, and in those with odd names."""
    there = [*sys.path, "/no such place", '/it\'s "odd"/\udcff\n']
    found = sys.path[:]
    sys.path[:] = there
    try:
        command = python_command("print(ascii(sys.path))")
    finally:
        sys.path[:] = found
    done = subprocess.run(command, capture_output=True, text=True)
    assert ast.literal_eval(done.stdout) == there, done.stderr


def decoders() -> list[int]:
    """Return the processes that decode for this one."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            isolated = b"glass_edge.runtime.isolation.serving" in (place / "cmdline").read_bytes()
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if isolated and parent == os.getpid():
            found.append(int(place.name))
    return found


def shared_bytes() -> int:
    """Return the memory that this process shares with decoders."""
    files = [place for place in Path("/proc/self/fd").iterdir() if "glass-edge" in str(held(place))]
    return sum(512 * place.stat().st_blocks for place in files)


def held(place: Path) -> Path | None:
    try:
        return place.readlink()
    except OSError:
        return None


def test_a_process_that_waits_holds_no_large_image(photographs):
    """Else each worker would keep the largest image that it ever saw, besides the budget."""
    spec = glass_views(224, 4)
    small, large = photographs[2].read_bytes(), photographs[-1].read_bytes()
    maker = ViewMaker(
        threads=1,
        memory=8 << 20,
        decode=DecodeOptions(LIMIT),
        timings=Timings(),
        isolate=True,
    )
    batch, expected, look = ViewBatch(1, spec), ViewBatch(1, spec), Look(Sampling(spec))
    for content in (small, large, small):
        maker.make(batch, 0, content, look)
        rgb = decode(content)
        expected.fill(0, rgb, Sampling(spec))
        assert np.array_equal(batch.views["local"], expected.views["local"])
        assert 0 < shared_bytes() <= 2 << 20
    with pytest.raises(ImageError, match="truncated or damaged"):
        maker.make(batch, 0, large[: len(large) // 2], look)
    assert shared_bytes() <= 2 << 20
    maker.close()
    assert shared_bytes() == 0


def test_verdicts_are_the_same_and_nothing_stays_open(vit_bundle, photographs):
    expected = Detector(vit_bundle).detect(photographs)
    detector = Detector(vit_bundle, DetectorOptions(isolate=True))
    detector.detect(photographs[:1])
    before = sorted(Path("/proc/self/fd").iterdir())
    for _ in range(2):
        for verdict, other in zip(detector.detect(photographs), expected, strict=True):
            assert verdict.score == pytest.approx(other.score, abs=1e-5)
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_a_run_goes_on_past_crashes(vit_bundle, photographs):
    """Decoders are killed while it runs: every image has a record, and most a verdict."""
    paths = [str(path) for path in photographs] * 8
    usual = {v.path: v for v in Detector(vit_bundle).detect(photographs)}
    detector = Detector(vit_bundle, DetectorOptions(isolate=True))
    ended = threading.Event()
    kills = 0

    def kill():
        nonlocal kills
        while not ended.wait(0.7) and kills < 3:
            for process in decoders()[:1]:
                os.kill(process, signal.SIGABRT)
                kills += 1

    killer = threading.Thread(target=kill)
    killer.start()
    records = list(detector.stream(paths))
    ended.set()
    killer.join()
    failures = [record for record in records if isinstance(record, Failure)]
    assert [record.path for record in records] == paths
    assert len(failures) <= kills
    for record in records:
        if isinstance(record, Failure):
            assert "SIGABRT" in record.error.message
        else:
            assert record.score == pytest.approx(usual[record.path].score, abs=1e-5)
    deadline = time.monotonic() + 5
    while decoders() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not decoders()
