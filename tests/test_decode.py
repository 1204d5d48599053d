"""Pixels are those of Pillow's convert("RGB"), in stored order; damage is an error."""

from __future__ import annotations

import io
import sys
import threading
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pillow_heif
import pytest
from conftest import EXAMPLES, encoded
from fuzz.images import pillows_pixels
from fuzz.seeds import seeds
from glass_edge.runtime.images.decode import decode, read_header, settle_pillow
from glass_edge.runtime.images.encoded import DecodeOptions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import AvifImagePlugin, Image
from pillow_heif import register_heif_opener

from glass_edge import ImageError


@pytest.fixture(scope="module")
def picture(photograph: Image.Image) -> Image.Image:
    return photograph.resize((403, 301), Image.Resampling.LANCZOS)


def sixteen_bits(image: Image.Image, suffix: str) -> bytes:
    pixels = np.asarray(image).astype(np.uint16) * 257 - 100 * (np.asarray(image) > 0)
    done, data = cv2.imencode(suffix, pixels.astype(np.uint16))
    assert done
    return data.tobytes()


def dark_sixteen_bits(image: Image.Image, suffix: str) -> bytes:
    """Grey values up to 510, of which clipping at 255 leaves the darker half."""
    done, data = cv2.imencode(suffix, np.asarray(image.convert("L")).astype(np.uint16) * 2)
    assert done
    return data.tobytes()


def half_transparent(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


FILES = {
    "baseline JPEG": lambda p: encoded(p, "JPEG", quality=90),
    "JPEG 4:4:4": lambda p: encoded(p, "JPEG", quality=95, subsampling=0),
    "JPEG 4:2:2": lambda p: encoded(p, "JPEG", quality=95, subsampling=1),
    "progressive JPEG": lambda p: encoded(p, "JPEG", progressive=True),
    "grey JPEG": lambda p: encoded(p.convert("L"), "JPEG"),
    "CMYK JPEG": lambda p: encoded(p.convert("CMYK"), "JPEG"),
    "JPEG with something appended": lambda p: encoded(p, "JPEG") + b"appended" * 9,
    "PNG": lambda p: encoded(p, "PNG"),
    "grey PNG": lambda p: encoded(p.convert("L"), "PNG"),
    "one-bit PNG": lambda p: encoded(p.convert("1"), "PNG"),
    "palette PNG": lambda p: encoded(p.convert("P"), "PNG"),
    "transparent palette PNG": lambda p: encoded(p.convert("P"), "PNG", transparency=3),
    "RGBA PNG": lambda p: encoded(half_transparent(p), "PNG"),
    "grey alpha PNG": lambda p: encoded(half_transparent(p).convert("LA"), "PNG"),
    "16-bit PNG": lambda p: sixteen_bits(p, ".png"),
    "16-bit grey PNG": lambda p: dark_sixteen_bits(p, ".png"),
    "16-bit TIFF": lambda p: sixteen_bits(p, ".tiff"),
    "lossy WebP": lambda p: encoded(p, "WEBP"),
    "lossless WebP": lambda p: encoded(p, "WEBP", lossless=True),
    "transparent WebP": lambda p: encoded(half_transparent(p), "WEBP"),
    "GIF": lambda p: encoded(p, "GIF"),
    "animated GIF": lambda p: encoded(
        p, "GIF", save_all=True, append_images=[p.rotate(90)], duration=100
    ),
    "TIFF": lambda p: encoded(p, "TIFF"),
    "BMP": lambda p: encoded(p, "BMP"),
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_pillows_pixels(name, picture):
    content = FILES[name](picture)
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(image.convert("RGB"))
    rgb = decode(content)
    assert rgb.dtype == np.uint8
    assert np.array_equal(rgb, expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_exif_orientation_is_not_applied(kind, orientation, picture):
    exif = Image.Exif()
    exif[0x0112] = orientation
    rotated = decode(encoded(picture, kind, exif=exif, lossless=True))
    assert rotated.shape == (301, 403, 3)
    assert np.array_equal(rotated, decode(encoded(picture, kind, lossless=True)))


def test_tiffs_own_orientation_is_applied_as_pillow_does(picture):
    """In TIFF it is no EXIF entry but a part of the format, and Pillow's pixels are turned."""
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(picture, "TIFF", exif=exif)).shape == (403, 301, 3)


@pytest.mark.parametrize(
    "path", sorted(EXAMPLES.glob("*/*.jpg")), ids=lambda path: path.parent.name + path.name
)
def test_real_photographs(path):
    assert np.array_equal(decode(path.read_bytes()), np.asarray(Image.open(path).convert("RGB")))


# Of animations, and of what has something appended, the first picture is soon whole.
WHOLE_PICTURE_FIRST = ("JPEG with something appended", "animated GIF")
WHOLE_SEED_FIRST = ("mpo 0", "png animated 0", "tiff 9", "gif 1")
SEEDS = {f"{name} {i}": file for name, files in seeds().items() for i, file in enumerate(files)}


REFUSED = r"truncated or damaged|not an image"


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("name", [name for name in FILES if name not in WHOLE_PICTURE_FIRST])
def test_truncated_files_are_errors(name, share, picture):
    content = FILES[name](picture)
    with pytest.raises(ImageError, match=REFUSED):
        decode(content[: int(len(content) * share)])


@pytest.mark.parametrize("name", [name for name in SEEDS if name not in WHOLE_SEED_FIRST])
def test_truncated_files_of_every_format_are_errors(name):
    content = SEEDS[name]
    assert decode(content).size
    for share in (0.02, 0.5, 0.9):
        with pytest.raises(ImageError, match=REFUSED):
            decode(content[: 1 + int(len(content) * share)])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "empty"),
        (b"not an image at all" * 10, "not an image"),
        (b"\xff\xd8\xff\xd9", "not an image|damaged"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 64, "damaged|not an image"),
    ],
)
def test_what_is_no_image_is_an_error(content, sentence):
    with pytest.raises(ImageError, match=sentence):
        decode(content)


def test_an_absurdly_large_image_is_refused_before_decoding():
    header = encoded(Image.new("L", (8, 8)), "PNG")
    width = (100_000).to_bytes(4, "big")
    chunk = b"IHDR" + width + width + header[24:29]
    bomb = header[:12] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + header[33:]
    with pytest.raises(ImageError, match=r"too large|more than the limit"):
        decode(bomb)


def test_the_pixel_limit_can_be_set(picture):
    content = encoded(picture, "PNG")
    assert decode(content, DecodeOptions(403 * 301)).shape == (301, 403, 3)
    with pytest.raises(ImageError, match="403x301"):
        decode(content, DecodeOptions(403 * 301 - 1))


FAST = {
    "simplejpeg": ("baseline JPEG", "progressive JPEG", "JPEG 4:2:2", "grey JPEG"),
    "opencv": ("PNG", "grey PNG", "RGBA PNG", "lossy WebP", "lossless WebP"),
    "pillow": ("transparent WebP", "CMYK JPEG", "palette PNG", "16-bit PNG", "16-bit grey PNG",
               "GIF", "TIFF", "BMP"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("decoder", "name"), [(decoder, name) for decoder, names in FAST.items() for name in names]
)
def test_a_faster_decoder_is_taken_only_where_it_is_exact(decoder, name, picture):
    assert read_header(FILES[name](picture)).decoder == decoder


@pytest.mark.parametrize("name", [name for names in FAST.values() for name in names])
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_what_is_read_of_damaged_files_are_pillows_pixels(name, data, small_files):
    """Or it is an error, whatever bytes are changed; also where Pillow fills in what is missing."""
    content = bytearray(small_files[name])
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(content)
    try:
        rgb = decode(damaged)
    except ImageError:
        return
    assert np.array_equal(rgb, pillows_pixels(damaged))


@pytest.fixture(scope="module")
def small_files(picture) -> dict[str, bytes]:
    small = picture.resize((61, 47))
    return {name: make(small) for name, make in FILES.items()}


# --- AVIF and HEIC: one container, two codecs, threads of their own -----------------------


@pytest.fixture
def without_pillow_heif(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)


@pytest.fixture(scope="module")
def heic(picture) -> bytes:
    register_heif_opener()
    return encoded(picture, "HEIF")


def called_mif1(content: bytes) -> bytes:
    """Name the container first, as some encoders do, and not the codec."""
    assert content[4:12] in (b"ftypavif", b"ftypheic")
    return content[:8] + b"mif1" + content[12:]


def test_avif_in_a_container_that_heic_shares_needs_no_pillow_heif(picture, without_pillow_heif):
    content = encoded(picture, "AVIF")
    assert np.array_equal(decode(called_mif1(content)), decode(content))


def test_heic_says_what_it_needs(heic, without_pillow_heif):
    for content in (heic, called_mif1(heic)):
        with pytest.raises(ImageError, match=r"need the package pillow-heif: pip install 'glass-"):
            decode(content)


def test_both_are_read_with_it(picture, heic):
    assert decode(called_mif1(heic)).shape == (301, 403, 3)
    assert np.array_equal(decode(called_mif1(heic)), decode(heic))
    assert decode(called_mif1(encoded(picture, "AVIF"))).shape == (301, 403, 3)


@pytest.mark.parametrize(
    "brand", ["heix", "heim", "heis", "hevc", "hevx", "hevm", "hevs", "mif1", "msf1"]
)
def test_heif_of_every_brand_that_pillow_heif_reads_is_read(brand, heic):
    """Bursts and sequences among them; the brand says which profile its pictures need."""
    content = heic[:8] + brand.encode() + heic[12:]
    assert np.array_equal(decode(content), decode(heic))


def test_the_rotation_of_an_avif_is_not_applied(picture):
    """It is a property of the image (irot), of which Pillow makes an EXIF entry."""
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(picture, "AVIF", exif=exif)
    assert b"irot" in content
    assert decode(content).shape == (301, 403, 3)


def test_a_message_of_several_lines_becomes_one(heic):
    with pytest.raises(ImageError) as caught:
        decode(heic[: len(heic) * 2 // 3])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xff\x0a" + bytes(40), "JPEG XL is not read; convert it with djxl."),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "JPEG XL is not read; convert it with djxl."),
        (b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0" + bytes(40), "ICO is not read; convert it, for"),
        (b"%PDF-1.7\n" + bytes(40), "the file is a PDF file, not an image"),
        (b"<!DOCTYPE html><html>" + b" " * 40, "the file is a web page, not an image; download"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(40), "Fujifilm's RAF is a raw format, which is not read"),
        (b"\0\0\0\x18ftypcrx " + bytes(40), "Canon's CR3 is a raw format, which is not read"),
    ],
)
def test_what_is_not_read_is_called_by_its_name(content, sentence):
    with pytest.raises(ImageError) as caught:
        decode(content)
    assert str(caught.value).startswith(sentence)


def test_the_formats_that_are_read_are_named():
    with pytest.raises(ImageError, match=r"JPEG, .*AVIF, .*HEIC, .*JPEG 2000 and TGA are read"):
        decode(b"something else")


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.skipif(sys.platform != "linux", reason="counts by /proc")
@pytest.mark.usefixtures("every_cpu")
def test_an_avif_takes_one_thread_in_a_command(photograph, monkeypatch):
    """Workers decode side by side; by default Pillow would take a thread for each CPU."""
    monkeypatch.setattr(AvifImagePlugin, "DEFAULT_MAX_THREADS", 0)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    with warnings.catch_warnings():
        settle_pillow()
    content = encoded(photograph.resize((4000, 3000)), "AVIF", speed=10)
    seen, done = [], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            seen.append(threads())

    watcher = threading.Thread(target=watch)
    watcher.start()
    before = threads()
    decode(content)
    done.set()
    watcher.join()
    assert len(seen) > 10
    assert max(seen) <= before


def test_a_heic_takes_one_thread(heic):
    """Of those with many tiles, as phones write them and pillow-heif cannot."""
    register_heif_opener(decode_threads=4)
    decode(heic)
    assert pillow_heif.options.DECODE_THREADS == 1


@pytest.mark.parametrize("name", ["baseline JPEG", "TIFF", "palette PNG", "CMYK JPEG"])
def test_a_buffer_of_the_callers_is_used(name, picture):
    content = FILES[name](picture)
    image = read_header(content)
    buffer = np.zeros(image.decoded_bytes + 100, np.uint8)
    rgb, damaged = image.decode(buffer)
    assert not damaged
    assert np.shares_memory(rgb, buffer)
    assert np.array_equal(rgb, decode(content))
