r"""Draw what a GLASS sees of an image, from a real verdict: the picture in the README.

    python tools/picture.py build-demo/demo.glass examples/images/fake/dandelions.jpg 3373184103 \
        docs/crops.jpg

3373184103 is the generator's seed, chosen because it places three of the crops on the flower.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from glass_edge import Crop, Detector, DetectorOptions, Verdict

PHOTOGRAPH = 400  # pixels high
TILE = 172
GAP = 14
CAPTION = 28
MARGIN = 18
INK, PAPER, FRAME = "#1f2328", "#ffffff", "#57606a"
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#0072b2", "#f0e442", "#999999")
"""Of the crops, Okabe and Ito's: told apart by people who see few colours."""
SMALL, LARGE = ImageFont.load_default(15), ImageFont.load_default(34)


def draw(photograph: Image.Image, verdict: Verdict) -> Image.Image:
    """Return the photograph with its crops marked, and beside it every view and the verdict."""
    marked = _marked(photograph, verdict.crops)
    views = [_global_view(photograph), *(_crop(photograph, crop) for crop in verdict.crops)]
    columns = (len(views) + 2) // 2  # one more cell, for the verdict
    left = MARGIN + marked.width + 2 * GAP
    width = left + columns * (TILE + GAP) - GAP + MARGIN
    canvas = Image.new("RGB", (width, 2 * MARGIN + PHOTOGRAPH + CAPTION), PAPER)
    pen = ImageDraw.Draw(canvas)
    canvas.paste(marked, (MARGIN, MARGIN))
    size = f"{verdict.width} x {verdict.height} pixels"
    _caption(pen, f"{Path(str(verdict.path)).name}, {size}", MARGIN, MARGIN + PHOTOGRAPH)
    captions = ["the whole image", *map(_attention, range(1, len(views)), verdict.crops)]
    cells = [_cell(index, columns, left) for index in range(len(views) + 1)]
    for view, text, colour, (x, y) in zip(views, captions, (FRAME, *COLOURS), cells, strict=False):
        canvas.paste(view.resize((TILE, TILE), Image.Resampling.LANCZOS), (x, y))
        pen.rectangle((x, y, x + TILE - 1, y + TILE - 1), outline=colour, width=4)
        _caption(pen, text, x, y + TILE)
    _write_verdict(pen, verdict, *cells[-1])
    return canvas


def _marked(photograph: Image.Image, crops: tuple[Crop, ...]) -> Image.Image:
    """Return the photograph, small, with a numbered frame around each crop."""
    scale = PHOTOGRAPH / photograph.height
    small = photograph.resize((round(photograph.width * scale), PHOTOGRAPH))
    pen = ImageDraw.Draw(small)
    pen.rectangle((0, 0, small.width - 1, small.height - 1), outline=FRAME, width=4)
    for number, (crop, colour) in enumerate(zip(crops, COLOURS, strict=False), start=1):
        box = [crop.left, crop.top, crop.left + crop.width, crop.top + crop.height]
        left, top, right, bottom = (round(edge * scale) for edge in box)
        pen.rectangle((left - 2, top - 2, right + 2, bottom + 2), outline=colour, width=4)
        outside = right + 3 if right + 22 < small.width else left - 21
        pen.rectangle((outside, top - 2, outside + 18, top + 18), fill=colour)
        pen.text((outside + 9, top + 8), str(number), INK, SMALL, anchor="mm")
    return small


def _global_view(photograph: Image.Image) -> Image.Image:
    return photograph.resize((224, 224), Image.Resampling.BILINEAR)


def _crop(photograph: Image.Image, crop: Crop) -> Image.Image:
    return photograph.crop((crop.left, crop.top, crop.left + crop.width, crop.top + crop.height))


def _attention(number: int, crop: Crop) -> str:
    return f"crop {number}: attention {crop.attention:.2f}"


def _cell(index: int, columns: int, left: int) -> tuple[int, int]:
    """Return the corner of a cell of the two rows beside the photograph."""
    row, column = divmod(index, columns)
    lower = MARGIN + PHOTOGRAPH - TILE  # the lower row ends level with the photograph
    return left + column * (TILE + GAP), lower if row else MARGIN


def _caption(pen: ImageDraw.ImageDraw, text: str, x: int, y: int) -> None:
    pen.text((x, y + 5), text, INK, SMALL)


def _write_verdict(pen: ImageDraw.ImageDraw, verdict: Verdict, x: int, y: int) -> None:
    pen.text((x + TILE // 2, y + 62), verdict.verdict, INK, LARGE, anchor="mm")
    pen.text((x + TILE // 2, y + 104), f"P(fake) {verdict.score:.3f}", INK, SMALL, anchor="mm")


def main(bundle: str, image: str, seed: str, output: str) -> None:
    """Judge an image and write its picture."""
    (verdict,) = Detector(bundle, DetectorOptions(fixed_seed=int(seed))).detect(image)
    with Image.open(image) as opened:
        picture = draw(opened.convert("RGB"), verdict)
    picture.save(output, quality=88, subsampling=0, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
