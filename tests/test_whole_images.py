"""An image is whole, or it is an error: nothing that a decoder fills in is judged."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from conftest import DATA, encoded
from fuzz.cut import cut_short
from fuzz.seeds import seeds
from glass_edge.runtime.images.decode import decode, read_header
from glass_edge.runtime.images.encoded import DecodeOptions
from PIL import Image

from glass_edge import ImageError

FILES = {f"{name} {i}": file for name, files in seeds().items() for i, file in enumerate(files)}
NOT_CUT = ("avif 2", "mpo 0")  # an AVIF's first picture, or an MPO's, stays whole
FEWER_PACKETS = ("jpeg 2000 0", "jpeg 2000 1", "jpeg 2000 2")
"""A JPEG 2000 that ends between packets is a whole file of a coarser picture."""
KINDS = DATA / "kinds"
REFUSED = r"truncated or damaged|not an image|is empty"
ALLOWED = DecodeOptions(allow_damaged=True)


@pytest.fixture(scope="module")
def picture(photograph: Image.Image) -> Image.Image:
    return photograph.resize((403, 301), Image.Resampling.LANCZOS)


def pillows(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def refusal(content: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(content)
    return str(caught.value)


@pytest.mark.parametrize("name", [name for name in FILES if name not in NOT_CUT + FEWER_PACKETS])
def test_a_file_cut_short_and_ended_as_it_should_be_is_refused(name):
    """Wherever it is cut; or its picture is still the same, since nothing of it was lost."""
    whole = decode(FILES[name])
    for share in (0.01, 0.1, 0.33, 0.5, 0.77, 0.9, 0.97):
        cut = cut_short(FILES[name], share)
        try:
            assert np.array_equal(decode(cut), whole)
        except ImageError as error:
            assert re.search(REFUSED, str(error))  # noqa: PT017


# --- JPEG -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [{}, {"progressive": True}, {"mode": "L"}, {"mode": "CMYK"}])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_jpeg_cut_and_ended_with_a_marker(kind, share, picture):
    """Pillow fills in grey, and says nothing."""
    options = dict(kind)
    content = encoded(picture.convert(options.pop("mode", "RGB")), "JPEG", **options)
    cut = cut_short(content, share)
    assert pillows(cut).shape == (301, 403, 3)
    assert re.search("premature end of data segment|scans are missing", refusal(cut))


@pytest.mark.parametrize("scans", [1, 5, 9])
def test_a_progressive_jpeg_without_its_last_scans(scans, picture):
    """Cut between scans it is blurred, and libjpeg does not even warn."""
    content = encoded(picture, "JPEG", progressive=True)
    starts = [match.start() for match in re.finditer(b"\xff\xda", content)]
    cut = content[: starts[scans]] + b"\xff\xd9"
    assert pillows(cut).shape == (301, 403, 3)
    assert "scans are missing" in refusal(cut)


def test_a_sequential_jpeg_of_one_scan_for_each_colour_needs_them_all():
    content = (KINDS / "one-scan-each.jpg").read_bytes()
    assert np.array_equal(decode(content), pillows(content))
    *_, last = (match.start() for match in re.finditer(b"\xff\xda", content))
    assert "scans are missing" in refusal(content[:last] + b"\xff\xd9")


@pytest.mark.parametrize("left_over", [b"\0", b"\0" * 500, b"left over", b"\xff" * 9, b"\x55" * 70])
def test_bytes_left_over_behind_the_data_are_no_damage(left_over, picture):
    """Webcams and phones leave some: nothing is missing, though libjpeg warns."""
    content = encoded(picture, "JPEG")
    padded = content[:-2] + left_over + b"\xff\xd9"
    assert np.array_equal(decode(padded), decode(content))


def test_bytes_left_over_do_not_hide_what_is_missing(picture):
    """libjpeg tells of its last warning only."""
    content = encoded(picture, "JPEG", restart_marker_blocks=4)
    restarts = [match.start() for match in re.finditer(rb"\xff[\xd0-\xd7]", content)]
    broken = content[: restarts[1] - 9] + content[restarts[1] : -2] + b"left over" + b"\xff\xd9"
    assert "truncated or damaged" in refusal(broken)


METADATA = {
    "an unknown JFIF version": lambda c: c.replace(b"JFIF\0\1", b"JFIF\0\7"),
    "a bad colour profile": lambda c: c[:2] + b"\xff\xe2\0\x12ICC_PROFILE\0\7\3" + b"ab" + c[2:],
    "rubbish between segments": lambda c: c[:20] + b"rubbish" + c[20:],
    "a comment that ends": lambda c: c[:2] + b"\xff\xfe\0\x04\xff\xd9" + c[2:],
}


@pytest.mark.parametrize("name", METADATA)
def test_what_is_wrong_with_metadata_is_no_damage(name, picture):
    content = encoded(picture, "JPEG")
    assert np.array_equal(decode(METADATA[name](content)), decode(content))


@pytest.mark.parametrize("name", ["arithmetic.jpg", "arithmetic-progressive.jpg"])
@pytest.mark.parametrize("share", [1, 0.5])
def test_an_arithmetic_coded_jpeg_is_refused_by_its_name(name, share):
    """Its decoders take missing data for zeros without a warning: half of it would be judged."""
    content = (KINDS / name).read_bytes()
    assert pillows(cut_short(content, share)).shape == (48, 64, 3)
    said = refusal(cut_short(content, share))
    assert said.startswith("an arithmetic-coded JPEG is not read")
    assert said.endswith("convert it with jpegtran.")


@pytest.mark.parametrize(
    ("name", "sampling"),
    [("sampled-4x2.jpg", "4x2, 1x1, 1x1"), ("sampled-1x4.jpg", "1x4, 1x1, 1x1")],
)
def test_a_sampling_that_cannot_be_checked_is_refused_by_its_name(name, sampling):
    content = (KINDS / name).read_bytes()
    assert pillows(content).shape == (48, 64, 3)
    assert f"a JPEG with the sampling {sampling} is not read" in refusal(content)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((1, b"\xc3"), "a lossless JPEG is not read; convert it"),
        ((1, b"\xc5"), "a hierarchical JPEG is not read; convert it"),
        ((1, b"\xf7"), "JPEG-LS is not read; convert it"),
        ((4, b"\x0c"), "a JPEG of 12 bits is not read; convert it"),
        ((5, b"\0\0"), "a JPEG that says its height last (DNL) is not read; convert it"),
    ],
)
def test_other_kinds_of_jpeg_are_refused_by_their_names(change, said, picture):
    content = bytearray(encoded(picture, "JPEG"))
    place = content.index(b"\xff\xc0") + change[0]
    content[place : place + len(change[1])] = change[1]
    assert said in refusal(bytes(content))


# --- PNG ------------------------------------------------------------------------------------


PNGS = {
    "RGB": lambda p: encoded(p, "PNG"),
    "RGBA": lambda p: encoded(p.convert("RGBA"), "PNG"),
    "palette": lambda p: encoded(p.convert("P"), "PNG"),
    "grey with alpha": lambda p: encoded(p.convert("LA"), "PNG"),
    "one bit": lambda p: encoded(p.convert("1"), "PNG"),
}


@pytest.mark.parametrize("name", PNGS)
@pytest.mark.parametrize("rows", [1, 150, 300])
def test_a_png_whose_data_end_early(name, rows, picture):
    """They suffice for some rows, and each chunk is well formed: Pillow leaves the rest black."""
    cut = cut_short(PNGS[name](picture), rows / 301)
    assert pillows(cut).shape == (301, 403, 3)
    assert "its image data end after" in refusal(cut)


def test_an_interlaced_png_without_its_last_pass():
    content = FILES["png interlaced 0"]
    whole = decode(content)
    assert np.array_equal(whole, pillows(content))
    assert "its image data end after 50" in refusal(cut_short(content, 0.5))


# --- judged all the same --------------------------------------------------------------------


@pytest.mark.parametrize("make", [
    lambda p: cut_short(encoded(p, "JPEG"), 0.5),
    lambda p: cut_short(encoded(p.convert("CMYK"), "JPEG"), 0.5),
    lambda p: cut_short(encoded(p, "JPEG", progressive=True), 0.2),
    lambda p: cut_short(encoded(p, "PNG"), 150 / 301),
    lambda p: cut_short(encoded(p.convert("P"), "PNG"), 150 / 301),
], ids=["JPEG", "CMYK JPEG", "progressive JPEG", "PNG", "palette PNG"])  # fmt: skip
def test_a_damaged_image_is_decoded_if_that_is_asked_for_and_called_damaged(make, picture):
    content = make(picture)
    decoded = read_header(content, ALLOWED).decode()
    assert decoded.damaged
    assert np.array_equal(decoded.rgb, pillows(content))


@pytest.mark.parametrize("name", FILES)
def test_a_whole_image_is_not_called_damaged(name):
    assert not read_header(FILES[name], ALLOWED).decode().damaged


def test_what_no_decoder_can_read_stays_an_error(picture):
    content = bytearray(encoded(picture, "JPEG"))
    table = content.index(b"\xff\xc4")
    content[table + 5 : table + 21] = b"\xff" * 16  # more codes than there can be
    with pytest.raises(ImageError, match="truncated or damaged"):
        read_header(bytes(content), ALLOWED).decode()


def without_quantisation(picture: Image.Image) -> bytes:
    content = encoded(picture, "JPEG")
    return content.replace(b"\xff\xdb", b"\xff\xec")


WARNED_OF = {
    "an unknown JFIF version": lambda p: METADATA["an unknown JFIF version"](encoded(p, "JPEG")),
    "bytes between segments": lambda p: METADATA["rubbish between segments"](encoded(p, "JPEG")),
}


@pytest.mark.parametrize("name", WARNED_OF)
def test_a_damaged_jpeg_with_odd_metadata_too_is_decoded_if_that_is_asked_for(name, picture):
    cut = cut_short(WARNED_OF[name](picture), 0.5)
    decoded = read_header(cut, ALLOWED).decode()
    assert decoded.damaged
    assert np.array_equal(decoded.rgb, pillows(cut))


def test_a_jpeg_without_its_tables_is_one_sentence_also_if_damage_is_allowed(picture):
    with pytest.raises(ImageError, match="truncated or damaged"):
        read_header(without_quantisation(picture), ALLOWED).decode()


def test_a_jpeg_whose_height_was_lowered_is_not_judged_on_its_top(picture):
    content = bytearray(encoded(picture, "JPEG", quality=95))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 7] = (16).to_bytes(2, "big")
    assert pillows(bytes(content)).shape == (16, 403, 3)
    assert "bytes of image data are left over" in refusal(bytes(content))


def test_what_follows_the_last_scan_does_not_make_a_jpeg_damaged(picture):
    content = METADATA["an unknown JFIF version"](encoded(picture, "JPEG"))
    commented = content[:-2] + b"\xff\xfe\0\4hi" + content[-2:]
    assert np.array_equal(decode(commented), decode(content))


@pytest.mark.parametrize("number", [10_001, 200_000])
def test_a_jpeg_of_more_segments_than_any_program_writes_is_refused(number, picture):
    content = encoded(picture, "JPEG")
    assert "more than 10000 segments" in refusal(
        content[:2] + b"\xff\xfe\0\2" * number + content[2:]
    )


def test_a_png_without_its_end_is_damaged_and_can_be_decoded(picture):
    content = encoded(picture, "PNG")
    assert "the file ends" in refusal(content[:-12])
    decoded = read_header(content[:-12], ALLOWED).decode()
    assert decoded.damaged
    assert np.array_equal(decoded.rgb, np.asarray(picture))


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "HEIF", "JPEG2000"])
def test_a_file_that_ends_in_zeros_is_a_broken_download(kind, picture):
    """Its room was reserved, and not filled; these decoders take zeros for data."""
    content = encoded(picture, kind, quality=90)
    assert len(content) > 9_000
    broken = content[: len(content) - 4096] + bytes(4096)
    with pytest.raises(ImageError, match=r"ends in zeros, as a broken download does"):
        decode(broken)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
def test_other_decoders_notice_zeros_themselves(kind, picture):
    content = encoded(picture, kind)
    with pytest.raises(ImageError, match=REFUSED):
        decode(content[: len(content) - 4096] + bytes(4096))
