"""The page of a report, as people use it: opened from disk in a real browser."""

from __future__ import annotations

import csv
import io
import json
import re
import socket
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest
from browser import Opened, chromium, open_page, wait_for, wait_until
from conftest import slow
from glass_edge.runtime.machine.errors import InputError
from glass_edge.runtime.machine.printable import printable
from glass_edge.runtime.pages.assets import asset, json_in_html
from glass_edge.runtime.report.model import Report
from glass_edge.runtime.report.rendering import SCRIPTS, render_page
from glass_edge.runtime.results.records import Crop, Record, decode_record
from glass_edge.runtime.results.writers import CsvWriter
from PIL import Image, ImageOps
from playwright.sync_api import Browser, Locator, Page
from report_pages import (
    DECLARED,
    NO_CLAIMS,
    PHOTOGRAPHS,
    SIGNED,
    embedded,
    failure,
    head,
    row,
    thumbnail,
    verdict,
    write_page,
)

browser = pytest.fixture(chromium, scope="module")

HOSTILE = "</script><script>alert(1)</script>\"'<b>&amp;\n\u202egpj.exe\u2028\x1b[2J\\.jpg"
PATHS = ".card .path bdi"
ROWS = (
    row(
        verdict("b/ten.jpg", 0.97, provenance=SIGNED), thumbnail=embedded(thumbnail(PHOTOGRAPHS[0]))
    ),
    row(verdict("a/img10.jpg", 0.62, settled=False, crops=())),
    row(failure("a/broken.jpg", "the file of Zo\u00eb ends too early.")),
    row(verdict("a/img2.jpg", 0.1, provenance=NO_CLAIMS, settled=True), note="A remark."),
    row(verdict("c/twin.jpg", 0.1, provenance=DECLARED, damaged=True)),
    row(verdict(None, 0.58)),
)


def shown(page: Page) -> list[str]:
    """The paths of the cards in their order."""
    return page.locator(PATHS).all_inner_texts()


def card(page: Page, name: str):
    return page.locator(".card", has=page.get_by_text(name, exact=True))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_page(tmp_path_factory.mktemp("small"), *ROWS, open_verdicts=1)


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Page:
    """A page for tests that need no context of their own, which takes longest to make."""
    return open_page(browser, "about:blank").page


@pytest.fixture(autouse=True)
def _closed(browser: Browser, tab: Page) -> Iterator[None]:
    """Close what a test opened, or all pages of the module compute side by side."""
    yield
    for context in browser.contexts:
        if context is not tab.context:
            context.close()
    for page in tab.context.pages:
        if page is not tab:
            page.close()


def screenshot(page: Page, shown: Locator) -> Image.Image:
    """What an element looks like, pixel by pixel: Playwright's own clips to fractions of them."""
    shown.scroll_into_view_if_needed()
    place = {name: round(value) for name, value in (shown.bounding_box() or {}).items()}
    return Image.open(io.BytesIO(page.screenshot(clip=place)))


def reopened(tab: Page, url: str) -> Page:
    """Open a URL beside the tab, where no earlier test's step back is still under way."""
    page = tab.context.new_page()
    page.goto(url)
    return page


# --- opening ----------------------------------------------------------------------------------


def test_the_page_asks_for_nothing_and_complains_of_nothing(browser: Browser, small: str):
    opened = open_page(browser, small)
    card(opened.page, "b/ten.jpg").click()
    opened.page.keyboard.press("ArrowRight")
    opened.page.keyboard.press("Escape")
    assert [url for url in opened.requests if not url.startswith("data:")] == [small]
    assert opened.complaints == []


def test_thumbnails_in_a_folder_are_loaded_when_they_are_seen(browser: Browser, tmp_path: Path):
    (tmp_path / "thumbs").mkdir()
    rows = []
    for index in range(400):
        name = f"thumbs/{index} #&%.webp"
        (tmp_path / name).write_bytes(thumbnail(PHOTOGRAPHS[0]))
        url = name.replace("%", "%25").replace("#", "%23")
        rows.append(row(verdict(f"{index}.jpg", 1 - index / 400), thumbnail=url))
    opened = open_page(browser, write_page(tmp_path, *rows))
    wait_until(opened.page, "document.querySelector('.card img').naturalWidth > 0")
    assert opened.complaints == []
    assert 0 < len(opened.requests) - 1 < 100
    assert all(url.startswith(tmp_path.as_uri()) for url in opened.requests)


def test_a_missing_thumbnail_leaves_a_placeholder(tab: Page, tmp_path: Path):
    url = write_page(tmp_path, row(verdict("a.HEIC"), thumbnail="thumbs/gone.webp"))
    page = reopened(tab, url)
    assert page.locator(".placeholder .format").inner_text() == "HEIC"


def test_the_head_says_what_was_judged_without_scripts(browser: Browser, tmp_path: Path):
    url = write_page(
        tmp_path,
        *ROWS,
        selection="Shown are 6 of 9,000 images.",
        notes=("Two bundles were used.",),
        images=9000,
        open_verdicts=17,
    )
    page = open_page(browser, url, java_script_enabled=False).page
    text = page.locator("body").inner_text()
    for part in (
        *("photographs", "9,000 images", "3 real", "2 fake", "1 error", "17 not settled"),
        *("A verdict is evidence, not proof: do not act", "A detector knows the generators"),
        *("small.glass 0123456789ab", "0123456789abcdef" * 4, "GLASS", "fp32", "2026-11-27"),
        *("P(fake) ≥ 0.6 is called fake", "from the bundle", "Shown are 6 of 9,000 images."),
        *("Two bundles were used.", "need JavaScript", "threshold 0.6"),
    ):
        assert part in re.sub(r"\s+", " ", text), part
    assert not page.locator("#controls").is_visible()


def test_the_histogram_says_in_text_and_shapes_what_it_shows(tab: Page, small: str):
    page = reopened(tab, small)
    blocks = page.locator(".histogram rect[class=fake], .histogram rect[class=real]")
    assert blocks.count() == 4
    titles = page.locator(".histogram rect title").all_text_contents()
    assert "0.1 to 0.15: 2 real" in titles
    assert page.locator(".histogram rect[fill='url(#hatching)']").count() == 2
    page.get_by_text("As a table").click()
    assert page.locator(".scores tbody tr").all_inner_texts()[0].split("\t") == [
        *("0.1 to 0.15", "2", "0"),
    ]


def test_a_head_without_facts_says_so(browser: Browser, tmp_path: Path):
    url = write_page(
        tmp_path,
        row(failure("a.jpg")),
        **dict.fromkeys(("digest", "detector", "seed", "fake_class", "real_class", "threshold")),
        threshold_source="no record was judged",
        bundles=(),
        engines=(),
        precisions=(),
        limits=(),
    )
    opened = open_page(browser, url)
    assert opened.page.locator(".head").get_by_text("not known").count() == 7
    assert opened.page.locator("option[value=distance]").count() == 0
    opened.page.evaluate("location.hash = '#sort=distance&search=a.jpg'")
    wait_until(opened.page, "document.querySelector('[name=search]').value === 'a.jpg'")
    assert opened.page.locator("[name=sort]").input_value() == "score"
    assert shown(opened.page) == ["a.jpg"]
    assert opened.complaints == []


# --- hostile data -----------------------------------------------------------------------------


def test_names_of_files_are_text_everywhere(browser: Browser, tmp_path: Path):
    record = verdict(
        HOSTILE,
        0.9,
        provenance=msgspec.structs.replace(
            SIGNED, c2pa=msgspec.structs.replace(SIGNED.c2pa, generator=HOSTILE)
        ),
    )
    rows = (
        row(record, command=f"glass-run '{HOSTILE}'", note=HOSTILE),
        row(failure(HOSTILE + "2", HOSTILE)),
    )
    url = write_page(tmp_path, *rows, title=HOSTILE, notes=(HOSTILE,), limits=(HOSTILE,))
    opened = open_page(browser, url)
    page = opened.page
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    visible = printable(HOSTILE)
    assert shown(page) == [visible, visible + "2"]
    assert page.locator("h1").inner_text() == visible
    assert page.title() == f"{visible} - glass-edge report"
    page.locator(".card").first.click()
    page.wait_for_selector(".shown p:not(:text('Opening'))")
    assert page.locator("#detail-title").inner_text() == visible
    assert json.loads(page.locator(".record pre").inner_text())["path"] == HOSTILE
    page.keyboard.press("ArrowRight")
    assert visible in page.locator(".message p").inner_text()
    assert page.locator("script").count() == 2
    assert page.locator("b").count() == 0
    assert not re.search("[\x1b\u202e\u2028]", page.locator("html").inner_text())
    assert dialogs == []
    assert opened.complaints == []


def wait_for_complaint(opened: Opened, words: str) -> None:
    wait_for(opened.page, lambda: any(words in each for each in opened.complaints))


def test_the_policy_stops_what_is_not_of_the_page(browser: Browser, small: str):
    opened = open_page(browser, small)
    opened.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
            const holder = document.createElement("div");
            holder.innerHTML = "<img src=x onerror='window.ran = true'><p style='color: red'>";
            document.body.append(holder);
        }"""
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        opened.page.evaluate(
            "port => { new Image().src = `http://127.0.0.1:${port}/seen.png` }",
            server.getsockname()[1],
        )
        for kind in ("script-src", "style-src", "img-src"):
            wait_for_complaint(opened, kind)
        opened.page.wait_for_timeout(200)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert opened.page.evaluate("window.ran") is None
    policy = opened.page.locator("meta[http-equiv]").get_attribute("content")
    assert "img-src data: file: 'self';" in policy


def test_only_files_and_embedded_pictures_are_followed(browser: Browser, tmp_path: Path):
    urls = (
        "javascript:alert(1)",
        "http://example.org/a.webp",
        "//example.org/a.webp",
        "\\\\example.org\\share\\a.webp",
        "file://example.org/share/a.webp",
        "file:///%5C%5Cexample.org/share/a.webp",
        "file:///%2Fexample.org/share/a.webp",
        "data:text/html,<script>alert(1)</script>",
        "data:image/svg+xml;base64,AAAA",
        "blob:https://example.org/5b2fb95b-0c3e-4f0c-8a42-5d8a8d0ad4a1",
        "blob:null/5b2fb95b-0c3e-4f0c-8a42-5d8a8d0ad4a1",
    )
    rows = [row(verdict(), thumbnail=url, original=url, previews=(url, url)) for url in urls]
    page_url = write_page(tmp_path, *rows)
    opened = open_page(browser, page_url)
    assert opened.page.locator(".card .placeholder").count() == len(urls)
    opened.page.locator(".card").first.click()
    for _ in urls:
        wait_until(
            opened.page, "document.querySelector('.shown p').textContent.includes('not found')"
        )
        assert opened.page.locator(".pixels > *").count() == 0
        assert opened.page.locator("dialog .placeholder").count() == 1
        opened.page.keyboard.press("ArrowRight")
    assert opened.requests == [page_url]
    assert opened.complaints == []


def test_the_page_is_one_file_of_html(small: str):
    """Nothing in it names an address, and data cannot end their element."""
    text = Path(small.removeprefix("file://")).read_text(encoding="utf-8")
    found: dict[str, int] = {}

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found[tag] = found.get(tag, 0) + 1
            for name, value in attrs:
                assert name not in ("style", "src", "action")
                assert not name.startswith("on")
                assert "http" not in (value or "") or name == "http-equiv"

    Parser().feed(text)
    assert (found["script"], found["style"], found["link"]) == (2, 1, 1)
    assert json_in_html("</script><!--&\u2028\u2029") == (
        '"\\u003c/script\\u003e\\u003c!--\\u0026\\u2028\\u2029"'
    )


@pytest.fixture
def scripts(tab: Page) -> Page:
    """A page of nothing but the functions that need none."""
    tab.goto("about:blank")
    for name in ("text.js", "downloads.js"):
        tab.add_script_tag(content=asset(name))
    return tab


UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff"
    "\U000e0000-\U000e007f]"
)


def test_unseen_characters_are_escaped_and_all_others_stay(scripts: Page):
    text = "".join(map(chr, (*range(0x3000), *range(0xFE00, 0xFF00), *range(0xE0000, 0xE0100))))
    expected = UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    assert scripts.evaluate("text => printable(text)", text) == expected
    shown = scripts.evaluate("text => readableJson([text])", text)
    assert not UNSEEN.search(shown.replace("\n", ""))
    assert json.loads(shown) == [text]


def test_scores_lie_on_their_side_of_the_threshold(scripts: Page):
    for score, threshold, text, distance in (
        (0.59999, 0.6, "0.59999", "less than 0.0001 below"),
        (0.60001, 0.6, "0.6000", "less than 0.0001 above"),
        (0.6, 0.6, "0.6000", "none: the score is the threshold"),
        (0.60002, 0.60002, "0.60002", "none: the score is the threshold"),
        (0.9791, 0.6, "0.9791", "0.3791 above"),
        (0.999999, 0.6, ">0.9999", "0.4000 above"),
        (0.999999, 0.9999995, "0.999999", "less than 0.0001 below"),
        (0.000001, 0.00001, "0.000001", "less than 0.0001 below"),
        (1, 0.6, "1.0000", "0.4000 above"),
    ):
        pair = [score, threshold]
        assert scripts.evaluate("pair => scoreText(...pair)", pair) == text
        assert scripts.evaluate("pair => distanceText(...pair)", pair) == distance
    assert scripts.evaluate("scoreText(0.59999, null)") == "0.6000"


def test_shares_are_short(scripts: Page):
    shares = [0, 0.0004, 0.001, 0.0123, 0.5, 1]
    assert scripts.evaluate("shares => shares.map(percentText)", shares) == [
        *("0.0%", "<0.1%", "0.1%", "1.2%", "50%", "100%"),
    ]


def test_csv_has_columns_for_all_classes(scripts: Page):
    first = verdict("a.jpg")
    names = ("constructor", "fake")
    other = verdict(
        "b.jpg",
        verdict="constructor",
        probabilities=dict.fromkeys(names, 0.5),
        logits=dict.fromkeys(names, 0.25),
    )
    records = [failure("c.jpg"), first, other]
    text = scripts.evaluate("csvOf", msgspec.to_builtins(records))
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [name for name in lines[0] if name.startswith("logit_")] == [
        *("logit_real", "logit_fake", "logit_constructor"),
    ]
    assert [line["probability_constructor"] for line in lines] == ["", "", "0.5"]
    assert [line["probability_real"] for line in lines] == ["", "0.25", ""]


# --- sort, filter, search ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sort", "turned", "expected"),
    [
        ("score", False, ["b/ten", "a/img10", "image 6", "a/img2", "c/twin", "a/broken"]),
        ("score", True, ["a/img2", "c/twin", "image 6", "a/img10", "b/ten", "a/broken"]),
        ("distance", False, ["a/img10", "image 6", "b/ten", "a/img2", "c/twin", "a/broken"]),
        ("distance", True, ["a/img2", "c/twin", "b/ten", "a/img10", "image 6", "a/broken"]),
        ("path", False, ["a/broken", "a/img2", "a/img10", "b/ten", "c/twin", "image 6"]),
        ("path", True, ["image 6", "c/twin", "b/ten", "a/img10", "a/img2", "a/broken"]),
        ("crops", False, ["b/ten", "a/img2", "c/twin", "image 6", "a/img10", "a/broken"]),
        ("crops", True, ["a/img10", "b/ten", "a/img2", "c/twin", "image 6", "a/broken"]),
    ],
)
def test_images_are_sorted(tab: Page, small: str, sort: str, turned: bool, expected: list[str]):
    page = reopened(tab, small)
    page.select_option("select[name=sort]", sort)
    if turned:
        page.locator("button[name=turn]").click()
    assert [name.removesuffix(".jpg") for name in shown(page)] == expected


@pytest.mark.parametrize(
    ("act", "address", "expected"),
    [
        (lambda p: p.select_option("[name=verdict]", "fake"), "verdict=fake", ["b/ten", "a/img10"]),
        (
            lambda p: p.select_option("[name=verdict]", "real"),
            "verdict=real",
            ["image 6", "a/img2", "c/twin"],
        ),
        (lambda p: p.select_option("[name=verdict]", "error"), "verdict=error", ["a/broken"]),
        (lambda p: p.check("[name=unsettled]"), "unsettled=true", ["a/img10"]),
        (lambda p: p.check("[name=claims]"), "claims=true", ["b/ten", "c/twin"]),
        (lambda p: p.fill("[name=search]", "IMG"), "search=IMG", ["a/img10", "a/img2"]),
        (lambda p: p.fill("[name=search]", "camera b/"), "search=camera+b%2F", ["b/ten"]),
        (lambda p: p.fill("[name=search]", "too early"), "search=too+early", ["a/broken"]),
        (lambda p: p.fill("[name=search]", "ZOE\u0308"), "search=ZOE%CC%88", ["a/broken"]),
        (lambda p: p.fill("[name=search]", "trainedalgo"), "search=trainedalgo", ["c/twin"]),
    ],
)
def test_images_are_filtered_and_the_address_says_how(
    tab: Page, small: str, act, address: str, expected: list[str]
):
    page = reopened(tab, small)
    act(page)
    assert [name.removesuffix(".jpg") for name in shown(page)] == expected
    assert page.locator("#count").inner_text() == f"{len(expected)} of 6 shown"
    page.wait_for_url(f"{small}#{address}")
    page.reload()
    assert [name.removesuffix(".jpg") for name in shown(page)] == expected


def test_an_address_opens_a_view(tab: Page, small: str):
    page = reopened(tab, f"{small}#sort=path&verdict=real")
    assert shown(page) == ["a/img2.jpg", "c/twin.jpg", "image 6"]
    assert page.locator("select[name=sort]").input_value() == "path"
    page.evaluate("location.hash = '#sort=nonsense&verdict=__proto__&search=zzz'")
    page.wait_for_selector("#nothing:visible")
    assert page.locator("#count").inner_text() == "0 of 6 shown"
    page.locator("#reset").click()
    assert len(shown(page)) == 6
    page.fill("[name=search]", "fake")
    assert page.locator("#count").inner_text() == "0 of 6 shown"


def test_cards_say_what_must_be_known(tab: Page, small: str):
    page = reopened(tab, small)
    assert card(page, "b/ten.jpg").get_attribute("aria-label") == (
        "b/ten.jpg: fake, P(fake) 0.9700"
    )
    assert card(page, "b/ten.jpg").locator("img").get_attribute("alt") == (
        "b/ten.jpg: fake, P(fake) 0.9700"
    )
    assert page.locator("#legend").inner_text() == (
        "The crops that the model looked at are outlined and numbered. The thicker a line, "
        "the more attention, up to 75%: one scale for all images."
    )
    texts = [" ".join(text.split()) for text in page.locator(".card").all_inner_texts()]
    assert "C2PA valid: Example Camera 1.2" in texts[0]
    assert "640 \u00d7 427 · 2 crops" in texts[0]
    assert "not settled" in texts[1]
    assert "no claims" in texts[3]
    assert "note" in texts[3]
    assert "damaged" in texts[4]
    assert "claims trainedAlgorithmicMedia (xmp:DigitalSourceType)" in texts[4]
    assert "the file of Zo\u00eb ends too early." in texts[5]
    assert card(page, "a/broken.jpg").locator("use").get_attribute("href") == "#shape-error"
    assert card(page, "b/ten.jpg").locator("use").get_attribute("href") == "#shape-fake"
    assert card(page, "a/img2.jpg").locator("use").get_attribute("href") == "#shape-real"


def test_the_strength_of_outlines_has_one_scale(tab: Page, tmp_path: Path):
    rows = [
        row(
            verdict(f"{index}.jpg", crops=crops),
            thumbnail=embedded(thumbnail(PHOTOGRAPHS[0])),
        )
        for index, crops in enumerate(
            (
                (Crop(0, 0, 9, 9, 0.8), Crop(0, 0, 9, 9, 0.2)),
                (Crop(0, 0, 9, 9, 0.4), Crop(0, 0, 9, 9, 0.4), Crop(0, 0, 9, 9, 0.2)),
                (Crop(0, 0, 9, 9, None),),
            )
        )
    ]
    page = reopened(tab, write_page(tmp_path, *rows))
    widths = page.eval_on_selector_all(
        ".outlines .line", "lines => lines.map(line => Number(line.getAttribute('stroke-width')))"
    )
    assert widths == [4, 1.75, 2.5, 2.5, 1.75, 1]
    assert page.locator(".outlines text").all_text_contents() == ["1", "2", "1", "2", "3", "1"]


# --- orientation ------------------------------------------------------------------------------

STORED = (60, 100)  # height, width
PLACE = Crop(5, 20, 10, 30, 1.0)


def stored_image(orientation: int) -> tuple[Image.Image, Image.Exif]:
    """An image as it is stored: white where the crop is."""
    pixels = np.zeros((*STORED, 3), np.uint8)
    rows, columns = slice(PLACE.top, PLACE.top + PLACE.height), slice(PLACE.left, 50)
    pixels[rows, columns] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    return Image.fromarray(pixels), exif


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[int, Image.Image]]:
    """A page of files of all orientations, and the upright pictures as Pillow makes them."""
    folder = tmp_path_factory.mktemp("turned")
    rows, upright = [], {}
    for orientation in range(1, 9):
        image, exif = stored_image(orientation)
        name = f"{orientation}.jpg"
        image.save(folder / name, quality=100, subsampling=0, exif=exif)
        upright[orientation] = ImageOps.exif_transpose(Image.open(folder / name)).convert("L")
        stream = io.BytesIO()
        upright[orientation].save(stream, "WEBP", lossless=True)
        record = verdict(name, crops=(PLACE,), width=STORED[1], height=STORED[0])
        rows.append(
            row(
                record,
                orientation=orientation,
                original=name,
                thumbnail=embedded(stream.getvalue()),
            )
        )
    return write_page(folder, *rows), upright


def test_crops_lie_where_they_were_cut(tab: Page, turned):
    """Compared with where Pillow's upright picture is white."""
    url, upright = turned
    page = reopened(tab, url)
    for orientation, picture in upright.items():
        line = card(page, f"{orientation}.jpg").locator(".outlines .line")
        found = [
            float(line.get_attribute(name).removesuffix("%"))
            for name in ("x", "y", "width", "height")
        ]
        left, top, right, bottom = picture.point(lambda value: 255 * (value > 128)).getbbox()
        expected = (left, top, right - left, bottom - top)
        sizes = (picture.width, picture.height) * 2
        assert found == pytest.approx(
            [100 * part / size for part, size in zip(expected, sizes, strict=True)], abs=1e-3
        ), orientation


def test_native_crops_are_cut_from_upright_originals(browser: Browser, turned):
    url, _ = turned
    page = open_page(browser, f"{url}#sort=path", viewport={"width": 1200, "height": 1200}).page
    page.locator(".card").first.click()
    for orientation in range(1, 9):
        canvas = page.locator(".crop canvas")
        wait_until(page, "document.querySelector('.crop canvas')?.width > 0")
        assert page.locator("#detail-title").inner_text() == f"{orientation}.jpg"
        assert page.locator(".shown p").inner_text().startswith("This is the file at that path now")
        picture = screenshot(page, canvas).convert("L")
        sides = (PLACE.width, PLACE.height)
        assert picture.size == (sides if orientation < 5 else sides[::-1])
        assert np.asarray(picture).min() > 200
        page.keyboard.press("ArrowRight")


# --- details ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detailed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Image.Image]:
    """A page beside a file that is as it was judged, and others that are not; and the file."""
    folder = tmp_path_factory.mktemp("detailed")
    picture = Image.open(PHOTOGRAPHS[1]).convert("RGB").crop((40, 40, 340, 260))
    picture.save(folder / "same.png")
    picture.resize((150, 110)).save(folder / "changed.png")
    (folder / "unreadable.heic").write_bytes(b"no picture")
    size = {"width": 300, "height": 220}
    crops = (
        Crop(10, 20, 64, 64, 0.5, 0.031),
        Crop(150, 200, 64, 64, 0.2, -0.052),
        Crop(100, 100, 64, 64, 0.3, 0.0001),
    )
    preview = embedded(thumbnail(PHOTOGRAPHS[1]))
    same = verdict("same.png", 0.9, crops=crops, provenance=SIGNED, **size)
    bare = (Crop(10, 20, 64, 64, None), Crop(0, 0, 64, 64, None))
    rows = (
        row(same, original="same.png", command="glass-run 'same.png' --fixed-seed 4294967295"),
        row(verdict("changed.png", 0.8, crops=crops, **size), original="changed.png"),
        row(verdict("gone.png", 0.7, crops=bare, **size), original="gone.png", thumbnail=preview),
        row(verdict("null.png", 0.65, crops=bare, **size), previews=(preview, preview)),
        row(verdict("whole.png", 0.64, crops=(), **size)),
        row(verdict("one.png", 0.63, crops=bare[:1], **size)),
        row(verdict("turned.png", 0.62, crops=crops, **size), original="same.png", orientation=3),
        row(failure("failed.png", "cannot be read."), note="It is on another disk."),
    )
    return write_page(folder, *rows), picture


def details(page: Page, name: str) -> str:
    """Open an image's details and return what they say, once the file was tried."""
    card(page, name).click()
    wait_until(page, "!document.querySelector('.shown p')?.textContent.startsWith('Opening')")
    return " ".join(page.locator("dialog").inner_text().split())


def watch(page: Page, word: str) -> None:
    """Note in ``window.seen`` whether the details say a word from now on, be it for a moment."""
    page.evaluate(
        """word => new MutationObserver(() => {
            window.seen ||= document.querySelector("dialog").innerText.includes(word);
        }).observe(document.querySelector("dialog"), { childList: true, subtree: true })""",
        word,
    )


def leave(page: Page) -> None:
    """Close details, and wait until the browser has left their entry of its history."""
    page.keyboard.press("Escape")
    wait_until(page, "history.state === null")


def test_details_show_the_file_in_native_pixels(browser: Browser, detailed):
    url, picture = detailed
    page = open_page(browser, url, viewport={"width": 1200, "height": 1400}).page
    text = details(page, "same.png")
    assert "This is the file at that path now; its size in pixels is the record's." in text
    assert page.locator(".picture .outlines text").all_text_contents() == ["1", "2", "3"]
    canvas = page.locator(".crop[data-crop='2'] canvas")
    wait_until(page, "document.querySelector('.crop[data-crop=\"2\"] canvas').width > 0")
    found = np.asarray(screenshot(page, canvas).convert("RGB"))
    np.testing.assert_array_equal(found, np.asarray(picture.crop((200, 150, 264, 214))))
    assert "Where the model looked, and how each crop moved the score" in text
    assert "48.2 kB, changed 2026-11-02 09:12:44 UTC" in text
    assert "attention 50% raised P(fake) by 0.031" in text
    assert "attention 20% lowered P(fake) by 0.052" in text
    assert "changed P(fake) by less than 0.001" in text
    assert "Attention is a crop's weight in the verdict." in text
    assert (
        "All images of this page share one scale: a full attention bar is 50%, "
        "an influence bar that reaches the edge is 0.052."
    ) in text
    assert "Distance to the threshold 0.3000 above" in text
    for words in ("is fake", "heat"):
        assert words not in text
    bars = page.eval_on_selector_all(
        ".influence .bar",
        "bars => bars.map(bar => [bar.getAttribute('x'), bar.getAttribute('width')])",
    )
    assert bars[1] == ["0.000%", "50.000%"]
    assert bars[0] == ["50.000%", f"{50 * 0.031 / 0.052:.3f}%"]


def test_crops_are_ordered_by_number_or_influence(tab: Page, detailed):
    page = reopened(tab, detailed[0])
    details(page, "same.png")
    numbers = page.locator(".crop strong")
    assert numbers.all_inner_texts() == ["Crop 1", "Crop 2", "Crop 3"]
    page.get_by_role("button", name="by influence").click()
    assert numbers.all_inner_texts() == ["Crop 2", "Crop 1", "Crop 3"]
    assert page.evaluate("document.activeElement.textContent") == "by influence"


@pytest.mark.parametrize(
    ("name", "sentences"),
    [
        (
            "changed.png",
            ["it is 150 \u00d7 110, not 300 \u00d7 220", "the original file is needed"],
        ),
        (
            "gone.png",
            [
                *("was moved or removed", "This is the thumbnail.", "has no attention."),
                *("glass-run --influence does", "the original file is needed"),
            ],
        ),
        (
            "null.png",
            ["was not found when this page was made.", "Previews of crops are slightly compressed"],
        ),
        ("whole.png", ["It cut no crop."]),
        ("one.png", ["There is no other crop", "the original file is needed"]),
        ("turned.png", ["This browser may not turn such a file upright."]),
    ],
)
def test_details_say_what_is_missing_and_why(tab: Page, detailed, name: str, sentences: list[str]):
    page = reopened(tab, detailed[0])
    watch(page, "Opening")
    text = details(page, name)
    assert bool(page.evaluate("window.seen")) == (name in ("changed.png", "gone.png", "turned.png"))
    for sentence in sentences:
        assert sentence in text
    assert page.locator("dialog canvas").count() == 0
    assert page.locator("dialog .pixels img").count() == 2 * (name == "null.png")


def test_details_hold_claims_record_and_command(tab: Page, detailed):
    page = reopened(tab, detailed[0])
    text = details(page, "same.png")
    assert "Claims can be forged or stripped. They never change the verdict." in text
    for claim in (
        "Example Press",
        "Example Camera 1.2",
        "c2pa.created",
        "the signer could be anyone",
    ):
        assert claim in text
    assert json.loads(page.locator(".record pre").inner_text())["seed"] == 4294967295
    assert page.locator(".command pre").inner_text() == (
        "glass-run 'same.png' --fixed-seed 4294967295"
    )


@pytest.mark.parametrize("clipboard", [True, False])
def test_record_and_command_are_copied(browser: Browser, detailed, clipboard: bool):
    """Also where scripts may not write to the clipboard."""
    page = open_page(browser, detailed[0], permissions=["clipboard-read", "clipboard-write"]).page
    if not clipboard:
        page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(Error()) }")
    details(page, "same.png")
    watch(page, "Copied")
    page.get_by_role("button", name="Copy the command").click()
    wait_until(page, "window.seen")
    assert page.evaluate("navigator.clipboard.readText()") == (
        "glass-run 'same.png' --fixed-seed 4294967295"
    )
    page.get_by_role("button", name="Copy the record").click()
    wait_until(page, "navigator.clipboard.readText().then(text => text.startsWith('{'))")


def test_errors_have_details(tab: Page, detailed):
    page = reopened(tab, detailed[0])
    text = details(page, "failed.png")
    for part in ("This image could not be judged", "cannot be read.", "It is on another disk."):
        assert part in text


# --- images and browsers that are not as usual --------------------------------------------------

MANY = tuple(
    Crop(32 * (n // 32), 32 * (n % 32), 224, 224, 0.01 if n == 1 else n / 1e6, n / 1e6)
    for n in range(1024)
)
LONG_PATH = "folder/" + 300 * "long name " + ".jpg"
LONG_CLASS = "class" * 60


@pytest.fixture(scope="module")
def unusual(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("unusual")
    Image.new("RGB", (1216, 1216), "teal").save(folder / "many.png")
    picture = embedded(thumbnail(PHOTOGRAPHS[0]))
    wide = (Crop(0, 0, 64, 1200, 0.5, 0.1), Crop(0, 0, 64, 64, 0.5, 0.1))
    square = {"width": 1216, "height": 1216}
    rows = (
        row(verdict("thin.jpg", 0.99, width=10, height=1_000_000, crops=()), thumbnail=picture),
        row(verdict("tall.jpg", 0.98, width=500, height=2000, crops=()), thumbnail=picture),
        row(
            verdict("many.png", 0.97, crops=MANY, **square), original="many.png", thumbnail=picture
        ),
        row(verdict("wide.png", 0.96, crops=wide, **square), original="many.png"),
        row(verdict("lost.png", 0.95), thumbnail="lost.webp", previews=("lost.webp", picture)),
        row(verdict(LONG_PATH, 0.94, views={}), command="glass-run 'a\u200b.jpg'"),
        row(verdict("other.jpg", 0.59999, verdict=LONG_CLASS)),
    )
    return write_page(folder, *rows, title=" ", real_class=LONG_CLASS[:-1], real=0, fake=6)


def test_pictures_are_no_higher_than_their_place(tab: Page, unusual: str):
    page = reopened(tab, unusual)
    heights = "frames => frames.map(frame => frame.getBoundingClientRect().height)"
    assert max(page.eval_on_selector_all(".card .frame", heights)) <= 156
    for name in ("thin.jpg", "tall.jpg"):
        details(page, name)
        place = page.locator("dialog .frame").bounding_box()
        assert 100 < place["height"] <= 560
        ratio = {"thin.jpg": 0, "tall.jpg": 0.25}[name]
        assert place["width"] / place["height"] == pytest.approx(ratio, abs=0.01)
        assert "Seed" in page.locator("dialog .facts").first.inner_text()
        leave(page)


@pytest.mark.slow
def test_many_crops_are_light(tab: Page, unusual: str):
    """A few are outlined; details hold the pixels near the screen, and none once closed."""
    page = reopened(tab, unusual)
    outlines = card(page, "many.png").locator(".outlines")
    assert outlines.locator("text").all_text_contents() == [
        *("2", *map(str, range(994, 1025))),
    ]
    assert (
        page.locator("#legend")
        .inner_text()
        .endswith("Where there are more than 32, only the 32 with the most attention are outlined.")
    )
    assert "only the 100 with the most attention are outlined" in details(page, "many.png")
    assert page.locator(".picture .outlines text").count() == 100
    drawn = "Array.from(document.querySelectorAll('.crop canvas'), canvas => canvas.width > 0)"
    wait_until(page, f"{drawn}[0]")
    assert page.evaluate(f"{drawn}.filter(Boolean).length") < 100
    page.evaluate("window.figure = document.querySelector('.crop')")
    page.get_by_role("button", name="by influence").click()
    assert page.locator(".crop strong").first.inner_text() == "Crop 1024"
    assert page.evaluate("window.figure === document.querySelector('.crop:last-child')")
    page.locator(".crop").last.scroll_into_view_if_needed()
    wait_until(page, f"{drawn}.at(-1) && !{drawn}[0]")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(f"{drawn}[0] && {drawn}[63] && !{drawn}[64]")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(f"!{drawn}[0] && {drawn}.at(-1)")
    page.evaluate("window.original = document.querySelector('.picture img')")
    page.evaluate("window.last = document.querySelector('.crop:last-child canvas')")
    leave(page)
    assert page.locator("dialog .body > *").count() == 0
    assert page.evaluate("[window.original.hasAttribute('src'), window.last.width]") == [False, 0]
    details(page, "many.png")
    assert page.evaluate("document.querySelector('dialog').scrollTop") == 0


def test_keys_scroll_what_is_too_wide_and_page_elsewhere(browser: Browser, unusual: str):
    page = open_page(browser, unusual, viewport={"width": 700, "height": 700}).page
    details(page, "wide.png")
    wait_until(page, "document.querySelector('.crop[data-crop=\"1\"] .pixels').tabIndex === 0")
    assert page.locator(".crop[data-crop='2'] .pixels").get_attribute("tabindex") == "-1"
    page.locator(".crop[data-crop='1'] .pixels").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#detail-title").inner_text() == "wide.png"
    wait_until(page, "document.activeElement.scrollLeft > 0")
    page.get_by_role("button", name="by influence").click()
    page.keyboard.press("ArrowRight")
    assert page.locator("#detail-title").inner_text() == "lost.png"
    assert page.evaluate("document.activeElement.id") == "detail-title"
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#detail-title").inner_text() == "wide.png"
    assert page.locator("dialog [aria-live=polite]:not(button)").all_text_contents() == [
        "wide.png: fake, P(fake) 0.9600. 4 of 7"
    ]


def test_pictures_that_fail_to_load_say_so(tab: Page, unusual: str):
    page = reopened(tab, unusual)
    details(page, "lost.png")
    page.locator(".crop", has_text="The preview could not be loaded.").wait_for()
    page.locator(".shown .placeholder").wait_for()
    assert page.locator(".shown p").inner_text() == (
        "The file was not found when this page was made. The thumbnail could not be loaded."
    )
    assert page.locator(".pixels img").count() == 1


def test_a_long_path_leaves_room_and_a_command_is_copied_as_shown(browser: Browser, unusual: str):
    page = open_page(browser, unusual, permissions=["clipboard-read", "clipboard-write"]).page
    page.locator(".card").nth(5).click()
    assert page.locator("#detail-title").bounding_box()["height"] < 80
    wait_until(page, "document.getElementById('detail-title').tabIndex === 0")
    assert "Views" not in page.locator("dialog .facts").first.inner_text()
    watch(page, "Copied")
    page.get_by_role("button", name="Copy the command").click()
    wait_until(page, "window.seen")
    assert page.evaluate("navigator.clipboard.readText()") == "glass-run 'a\\u200b.jpg'"
    page.set_viewport_size({"width": 700, "height": 500})
    assert page.eval_on_selector("dialog header", "it => getComputedStyle(it).position") == "static"


def test_other_classes_are_counted_and_found(browser: Browser, small: str, unusual: str):
    page = open_page(browser, unusual, viewport={"width": 400, "height": 700}).page
    assert page.locator("h1").inner_text() == "images"
    assert page.locator(".counts").get_by_text("of other classes").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.select_option("[name=verdict]", "other")
    assert shown(page) == ["other.jpg"]
    details(page, "other.jpg")
    assert page.locator("dialog .score").inner_text() == "0.59999"
    assert page.eval_on_selector("dialog .word", "it => it.scrollWidth - it.clientWidth") == 0
    assert page.eval_on_selector("dialog", "it => it.scrollWidth - it.clientWidth") == 0
    page.goto(small)
    assert page.locator("[name=verdict] option").all_inner_texts() == [
        *("all images", "fake", "real", "errors"),
    ]
    assert "Of the images called fake or real." in page.locator("#scores-text").inner_text()


def test_only_a_press_on_the_backdrop_closes_details(tab: Page, small: str):
    page = reopened(tab, small)
    card(page, "b/ten.jpg").click()
    page.mouse.move(640, 400)
    page.mouse.down()
    page.mouse.move(3, 400)
    page.mouse.up()
    assert page.locator("dialog").is_visible()
    page.mouse.click(3, 400)
    assert not page.locator("dialog").is_visible()


def test_paging_fast_opens_no_file_on_the_way(browser: Browser, turned):
    """Presses come from the page: its timers keep their order, however slow the machine is."""
    opened = open_page(browser, f"{turned[0]}#sort=path")
    opened.page.locator(".card").first.click()
    wait_until(opened.page, "document.querySelector('.crop canvas')?.width > 0")
    opened.page.evaluate(
        """async () => {
            for (let presses = 0; presses < 7; presses += 1) {
                const press = new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true });
                document.activeElement.dispatchEvent(press);
                await new Promise((resolve) => setTimeout(resolve, 20));
            }
        }"""
    )
    wait_until(opened.page, "document.querySelector('.crop canvas')?.width > 0")
    names = [url.rsplit("/", 1)[1] for url in opened.requests if url.endswith(".jpg")]
    assert names == ["1.jpg", "8.jpg"]


def test_back_closes_details(browser: Browser, small: str):
    page = open_page(browser, f"{small}#verdict=real").page
    entries = page.evaluate("history.length")
    card(page, "c/twin.jpg").click()
    assert page.evaluate("history.length") == entries + 1
    page.go_back()
    wait_until(page, "!document.querySelector('dialog[open]')")
    assert page.url == f"{small}#verdict=real"
    card(page, "c/twin.jpg").click()
    leave(page)
    assert page.evaluate("document.activeElement.innerText").find("c/twin.jpg") >= 0
    card(page, "c/twin.jpg").click()
    page.evaluate("location.hash = '#sort=path'")
    wait_until(page, "!document.querySelector('dialog[open]')")
    wait_until(page, "document.activeElement.dataset.position === '4'")
    assert page.locator("#count").inner_text() == "6 of 6 shown"
    page.set_viewport_size({"width": 300, "height": 500})
    wait_until(page, "document.getElementById('grid').ariaColCount === '1'")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    leave(page)
    page.wait_for_timeout(50)
    place = page.evaluate("document.activeElement.getBoundingClientRect().toJSON()")
    assert 0 < place["top"] < place["bottom"] < 500
    page.locator(".card").first.click()
    page.evaluate("location.hash = '#search=zzz'")
    wait_until(page, "document.activeElement.name === 'search'")
    page.locator("#reset").click()
    assert page.evaluate("document.activeElement.name") == "search"


@pytest.mark.slow
def test_a_browser_may_refuse_to_change_its_history(browser: Browser, small: str):
    opened = open_page(browser, "about:blank")
    page = opened.page
    page.add_init_script(
        "history.pushState = history.replaceState = () => { throw new DOMException() }"
    )
    page.goto(small)
    page.fill("[name=search]", "b/ten")
    card(page, "b/ten.jpg").click()
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    assert page.locator("[name=search]").input_value() == "b/ten"
    assert (page.url, opened.complaints) == (small, [])


# --- keyboard ---------------------------------------------------------------------------------


def test_everything_is_reached_by_the_keyboard(browser: Browser, tmp_path: Path):
    rows = [row(verdict(f"{index:03}.jpg", 1 - index / 500)) for index in range(300)]
    url = write_page(tmp_path, *rows)
    page = open_page(browser, url, viewport={"width": 1000, "height": 800}).page
    columns = int(page.locator("#grid").get_attribute("aria-colcount"))

    def focused() -> int:
        return int(page.evaluate("document.activeElement.dataset.position"))

    page.locator("#save-jsonl").focus()
    page.keyboard.press("Tab")
    assert focused() == 0
    for key, expected in [
        ("ArrowRight", 1),
        ("ArrowDown", 1 + columns),
        ("ArrowLeft", columns),
        ("ArrowUp", 0),
        ("ArrowUp", 0),
        ("ArrowRight", 1),
        ("ArrowUp", 1),
        ("End", 299),
        ("ArrowRight", 299),
        ("ArrowDown", 299),
        ("Home", 0),
    ]:
        page.keyboard.press(key)
        assert focused() == expected, key
        assert page.evaluate(
            "(box => box.top >= 0 && box.bottom <= innerHeight)"
            "(document.activeElement.getBoundingClientRect())"
        ), key
    page.keyboard.press("PageDown")
    assert focused() == 2 * columns
    page.keyboard.press("Enter")
    assert page.locator("#detail-title").inner_text() == f"{2 * columns:03}.jpg"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert page.locator(".position").inner_text() == f"{2 * columns + 2} of 300"
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    wait_until(page, f"document.activeElement.dataset.position === '{2 * columns + 1}'")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert focused() == 2 * columns + 1


def test_arrows_work_at_both_ends_of_a_list(tab: Page, small: str):
    page = reopened(tab, small)
    page.locator(".card").last.click()
    page.keyboard.press("ArrowRight")
    assert page.locator(".position").inner_text() == "6 of 6"
    page.get_by_role("button", name="Previous").focus()
    for _ in range(7):
        page.keyboard.press("Enter")
    assert page.locator(".position").inner_text() == "1 of 6"
    page.keyboard.press("ArrowRight")
    assert page.locator(".position").inner_text() == "2 of 6"


def test_scrolling_keeps_the_focused_card(tab: Page, tmp_path: Path):
    rows = [row(verdict(f"{index:03}.jpg", 1 - index / 500)) for index in range(300)]
    page = reopened(tab, write_page(tmp_path, *rows))
    page.locator(".card").first.focus()
    page.evaluate("scrollTo(0, 8000)")
    wait_until(page, "document.querySelectorAll('.card').length < 100 && scrollY > 7000")
    assert page.evaluate("document.activeElement.dataset.position") == "0"
    page.evaluate("document.activeElement.blur()")
    page.evaluate("scrollTo(0, 8100)")
    wait_until(page, "!document.querySelector('[data-position=\"0\"]')")
    assert page.locator(".card[tabindex='0']").count() == 1


# --- downloads --------------------------------------------------------------------------------

RECORDS: tuple[Record, ...] = (
    verdict("=cmd|' /C calc'!A0.jpg", 1.0, settled=True, crops=()),
    verdict('\'quoted "name", with commas;\nand lines.jpg', 0.000012345678, settled=False),
    verdict("\ttab.jpg", 0.30000001192092896, damaged=True, seed=None, file=None),
    verdict("\u05d0 \u202e.jpg", 0.5, crops=(Crop(0, 0, 9, 9, None),)),
    verdict(None, 0.0, provenance=SIGNED),
    failure("@broken.jpg", '-1 is no size, it says "so".'),
    failure("plain.jpg"),
)


def saved(page: Page, button: str) -> str:
    with page.expect_download() as download:
        page.locator(button).click()
    return Path(download.value.path()).read_bytes().decode()


def written_csv(records: tuple[Record, ...]) -> str:
    lines: list[bytes] = []

    class Sink:
        def append(self, line: bytes) -> None:
            lines.append(line)

    writer = CsvWriter(Sink(), ("real", "fake"))
    for record in records:
        writer.write(record)
    return b"".join(lines).decode()


def cell(text: str) -> object:
    """A cell's value, by which 1 and 1.0 are equal."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def test_csv_is_what_glass_run_writes(tab: Page, tmp_path: Path):
    url = write_page(tmp_path, *map(row, RECORDS))
    page = reopened(tab, f"{url}#sort=path")
    order = [printable(r.path) if r.path else f"image {i + 1}" for i, r in enumerate(RECORDS)]
    records = tuple(RECORDS[order.index(name)] for name in shown(page))
    found, expected = (
        list(csv.reader(io.StringIO(text, newline="")))
        for text in (saved(page, "#save-csv"), written_csv(records))
    )
    assert found[0] == expected[0]
    assert [list(map(cell, cells)) for cells in found] == [
        list(map(cell, cells)) for cells in expected
    ]


def test_json_lines_are_equal_records(tab: Page, tmp_path: Path):
    url = write_page(tmp_path, *map(row, RECORDS))
    page = reopened(tab, f"{url}#verdict=error")
    assert decoded(saved(page, "#save-jsonl")) == list(RECORDS[-2:])
    page.select_option("[name=verdict]", "all")
    found = decoded(saved(page, "#save-jsonl"))
    assert sorted(map(repr, found)) == sorted(map(repr, RECORDS))


def decoded(lines: str) -> list[Record]:
    return [decode_record(line.encode()) for line in lines.split("\n")[:-1]]


# --- paper, colours, sizes --------------------------------------------------------------------


def test_paper_shows_the_first_cards_of_the_view(browser: Browser, tmp_path: Path):
    rows = [
        row(
            verdict(f"{index:03}.jpg", 1 - index / 500),
            thumbnail=embedded(thumbnail(PHOTOGRAPHS[0])),
        )
        for index in range(230)
    ]
    page = open_page(browser, write_page(tmp_path, *rows)).page
    pages = len(re.findall(rb"/Type */Page\b", page.pdf(format="A4")))
    assert 8 < pages < 16
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#print-cards .card").count() == 200
    assert page.locator("#print-cards > p").inner_text() == (
        "230 images; sorted by P(fake), descending. The first 200 are printed."
    )
    assert page.locator("h1").is_visible()
    assert not page.locator("#grid").is_visible()
    assert not page.locator("#controls").is_visible()
    assert page.locator("#grid .card").count() < 100
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#print-cards .card").count() == 0
    page.emulate_media(media="screen")
    page.select_option("[name=verdict]", "fake")
    page.fill("[name=search]", "022")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#print-cards > p").inner_text() == (
        "1 of 230 images: fake only, found by “022”; sorted by P(fake), descending."
    )


@pytest.mark.slow
def test_paper_shows_open_details_instead(browser: Browser, detailed):
    page = open_page(browser, detailed[0]).page
    details(page, "same.png")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#print-cards .card").count() == 0
    assert not page.locator("h1").is_visible()
    assert not page.locator("dialog button").first.is_visible()
    assert "A verdict is evidence, not proof." in page.locator("dialog").inner_text()
    assert page.locator("dialog canvas").count() == 3
    wrapping = "it => getComputedStyle(it).overflowWrap"
    assert page.eval_on_selector(".record pre", wrapping) == "anywhere"


def luminance(colour: str) -> float:
    channels = np.array(re.findall(r"[\d.]+", colour)[:3], float) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(browser: Browser, small: str, scheme: str):
    """Contrast (WCAG AA) of 4.5 of text, and of 3 of a control's border, on all their grounds."""
    page = open_page(browser, small, color_scheme=scheme).page
    colours = page.evaluate(
        """names => Object.fromEntries(names.map(name => {
            document.body.style.color = `var(--${name})`;
            return [name, getComputedStyle(document.body).color];
        }))""",
        ["paper", "raised", "sunken", "notice", "ink", "quiet", "fake", "real", "error", "control"],
    )
    dark = luminance(colours["paper"]) < 0.2
    assert dark == (scheme == "dark")
    for ground in ("paper", "raised", "sunken", "notice"):
        for text in ("ink", "quiet", "fake", "real", "error"):
            pair = sorted((luminance(colours[ground]), luminance(colours[text])))
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (ground, text)
    for ground in ("paper", "raised"):
        pair = sorted((luminance(colours[ground]), luminance(colours["control"])))
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 3, ground


@pytest.mark.parametrize("width", [360, slow(1440)])
def test_nothing_is_wider_than_the_screen(browser: Browser, detailed, width: int):
    opened = open_page(browser, detailed[0], viewport={"width": width, "height": 800})
    wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert opened.page.evaluate(wider) <= 0
    assert int(opened.page.locator("#grid").get_attribute("aria-colcount")) == (
        2 if width == 360 else 6
    )
    details(opened.page, "same.png")
    assert (
        opened.page.evaluate(
            "(dialog => dialog.scrollWidth - dialog.clientWidth)(document.querySelector('dialog'))"
        )
        == 0
    )


@pytest.mark.parametrize(("count", "embed"), [(2000, True), slow(10_000, False)])
def test_many_images_stay_usable(
    browser: Browser,
    tmp_path: Path,
    count: int,
    embed: bool,
    record_property,
):
    (tmp_path / "thumbs").mkdir()
    rows = []
    for index in range(count):
        picture = thumbnail(PHOTOGRAPHS[index % len(PHOTOGRAPHS)])
        name = f"thumbs/{index}.webp"
        if not embed:
            (tmp_path / name).write_bytes(picture)
        score = (index * 7919 % count) / count
        record = verdict(f"folder/{index:05}.jpg", score, provenance=NO_CLAIMS)
        rows.append(row(record, thumbnail=embedded(picture) if embed else name))
    url = write_page(tmp_path, *rows)
    began = time.perf_counter()
    opened = open_page(browser, url)
    page = opened.page
    wait_until(page, "document.querySelector('.card img')?.naturalWidth > 0")
    opening = time.perf_counter() - began
    began = time.perf_counter()
    page.fill("[name=search]", "9")
    searching = time.perf_counter() - began
    page.fill("[name=search]", "")
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    page.wait_for_selector(f".card[data-position='{count - 1}']", state="attached")
    elements = page.evaluate("document.querySelectorAll('*').length")
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    metrics = session.send("Performance.getMetrics")["metrics"]
    heap = next(each["value"] for each in metrics if each["name"] == "JSHeapUsedSize")
    figures = f"{count} rows: {opening:.2f} s to open, {searching:.2f} s to search, "
    figures += f"{elements} elements, heap {heap / 1e6:.0f} MB"
    sys.stdout.write(figures + "\n")
    assert opened.complaints == []
    assert elements < 3000
    assert opening < 8
    assert searching < 2
    assert heap < 150e6


# --- rendering --------------------------------------------------------------------------------


def test_without_jinja_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match=r"pip install 'glass-edge\[report\]'"):
        render_page(Report(head(ROWS), ROWS))


def test_a_page_is_written_piece_by_piece():
    rows = tuple(row(verdict(f"{index}.jpg")) for index in range(3000))
    assert len(list(render_page(Report(head(rows), rows)))) > 10


def test_text_grows_with_the_reader_s_font_size():
    for name in ("shared.css", "report.css"):
        assert not re.search(r"font(-size)?: *[\d.]+px", asset(name)), name


def test_scripts_cannot_end_their_element():
    for name in (*SCRIPTS, "shared.css", "report.css"):
        assert not re.search("</|<!--", asset(name)), name
