"""The page of glass-serve, as people use it: a real browser, a real server, real verdicts."""

from __future__ import annotations

import base64
import csv
import io
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest
from browser import Opened, chromium, open_page, wait_for, wait_until
from conftest import EXAMPLES, encoded, slow, with_rule
from glass_edge.runtime.claims.claims import ClaimOptions
from glass_edge.runtime.results.records import Verdict
from glass_edge.runtime.serving.page import Facts, facts_of, render_page
from PIL import Image, ImageOps
from playwright.sync_api import Browser, FilePayload, Locator, Route
from playwright.sync_api import Page as Tab
from serving import serving

from glass_edge import Bundle, Detector, DetectorOptions

browser = pytest.fixture(chromium, scope="module")

MAX_BYTES = 4 << 20
PHOTOGRAPHS = tuple(
    sorted(each for each in EXAMPLES.rglob("*.jpg") if each.stat().st_size < MAX_BYTES)
)
HOSTILE = "<img src=x onerror=alert(1)>\u202egpj.exe\"'&amp;.jpg"
EXIF_ORIENTATION = 274
OPENS = """async (url) => {
    const image = new Image();
    image.src = url;
    return image.decode().then(() => true, () => false);
}"""


@dataclass(frozen=True)
class Server:
    """What serves the page, and a detector that judges as it does."""

    url: str
    detector: Detector
    facts: Facts

    def verdict(self, content: bytes) -> Verdict:
        [verdict] = self.detector.detect([content])
        return verdict


@pytest.fixture(scope="module")
def served(vit_bundle: Bundle) -> Iterator[Server]:
    """The page of the real server."""
    options = DetectorOptions(influence=True, claims=ClaimOptions(provenance=True))
    detector = Detector(vit_bundle, options)
    facts = facts_of(detector, MAX_BYTES)
    with serving(
        vit_bundle, "--influence", "--provenance", "--max-bytes", MAX_BYTES >> 20
    ) as server:
        yield Server(f"{server.url}/", detector, facts)


@pytest.fixture
def opened(browser: Browser, served: Server) -> Iterator[Opened]:
    """The page as it is at the start. Whatever a test does, the browser complains of nothing."""
    found = open_page(browser, served.url)
    yield found
    assert [each for each in found.complaints if "status of" not in each] == []
    assert all(url.startswith((served.url, "data:", "blob:")) for url in found.requests)
    found.page.context.close()


def choose(page: Tab, files: Sequence[Path] | Sequence[FilePayload] | FilePayload) -> None:
    page.locator("#files").set_input_files(files)


def payload(content: bytes, name: str = "photo.jpg", media_type: str = "image/jpeg") -> FilePayload:
    return {"name": name, "mimeType": media_type, "buffer": content}


def give(page: Tab, event: str, contents: Mapping[str, bytes]) -> None:
    """Drop files on the page, or paste them."""
    encoded_files = {name: base64.b64encode(content).decode() for name, content in contents.items()}
    page.evaluate(
        """([event, files]) => {
            const data = new DataTransfer();
            for (const [name, text] of Object.entries(files)) {
                const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
                data.items.add(new File([bytes], name, { type: "image/jpeg" }));
            }
            const made = event === "paste"
                ? new ClipboardEvent(event, { clipboardData: data, bubbles: true })
                : new DragEvent(event, { dataTransfer: data, bubbles: true, cancelable: true });
            document.getElementById("drop").dispatchEvent(made);
        }""",
        [event, encoded_files],
    )


def cards(page: Tab, count: int) -> list[Locator]:
    """The cards of pictures, as soon as so many are judged."""
    wait_until(page, f"document.querySelectorAll('button.card').length === {count}")
    return page.locator("button.card").all()


def hold(page: Tab) -> list[Route]:
    """Keep back what the page sends; it goes on by ``continue_``."""
    held: list[Route] = []

    def keep(route: Route) -> None:
        held.append(route)

    page.route("**/v1/judge*", keep)
    return held


def wait_for_held(page: Tab, held: list[Route], count: int) -> None:
    """Wait until so many were kept back: a card says that it is judged before Python knows."""
    wait_for(page, lambda: len(held) >= count)


def stop_time(page: Tab) -> None:
    """Let time pass on the page only when a test says so."""
    page.clock.install(time=0)
    page.clock.pause_at(3600)


def saved(page: Tab, button: str) -> str:
    with page.expect_download() as download:
        page.locator(button).click()
    return Path(download.value.path()).read_text(encoding="utf-8")


def rectangles(shown: Locator) -> list[list[float]]:
    """The outlines in a picture: x, y, width and height in percent."""
    names = ("x", "y", "width", "height")
    lines = shown.locator(".outlines .line").all()
    return [[float(each.get_attribute(name)[:-1]) for name in names] for each in lines]


def upright_places(verdict: Verdict, orientation: int) -> list[list[float]]:
    """Where Pillow puts a verdict's crops when it turns the picture upright, in percent."""
    places = []
    for crop in verdict.crops:
        mask = np.zeros((verdict.height, verdict.width), np.uint8)
        mask[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width] = 255
        image = Image.fromarray(mask)
        image.getexif()[EXIF_ORIENTATION] = orientation
        turned = ImageOps.exif_transpose(image)
        left, top, right, bottom = turned.getbbox()
        places.append(
            [
                100 * left / turned.width,
                100 * top / turned.height,
                100 * (right - left) / turned.width,
                100 * (bottom - top) / turned.height,
            ]
        )
    return places


# --- the page ---------------------------------------------------------------------------------


def test_the_page_says_what_judges_and_what_a_verdict_is_not(opened: Opened, served: Server):
    text = opened.page.locator("body").inner_text()
    facts = served.facts
    for said in (facts.bundle, facts.digest, facts.engine, "P(fake) ≥ 0.5 is called fake"):
        assert said in text
    assert "A verdict is evidence, not proof" in text
    assert all(limit in text for limit in facts.limits)
    assert "sent to this server, judged and not stored. Up to 4 MiB each." in text
    assert [url for url in opened.requests if url != "data:,"] == [served.url]


def test_facts_are_the_detectors(served: Server, vit_bundle: Bundle):
    facts = served.facts
    assert (facts.bundle, facts.digest) == (vit_bundle.name, vit_bundle.digest)
    assert (facts.fake_class, facts.real_class) == ("fake", "real")
    assert (facts.crops, facts.auto) == (vit_bundle.manifest.views.num_crops, False)
    assert "Crops are drawn at random" in facts.limits[-1]


@pytest.mark.parametrize(
    ("options", "crops", "auto"),
    [
        (DetectorOptions(), 10, True),
        (DetectorOptions(crops=2), 2, True),
        (DetectorOptions(crops="auto"), "auto", True),
        (DetectorOptions(threshold=0.9), 10, False),
    ],
)
def test_facts_say_how_many_crops_are_drawn(options, crops, auto, calibrated: Bundle):
    facts = facts_of(Detector(calibrated, options), MAX_BYTES)
    assert (facts.crops, facts.auto) == (crops, auto)


@pytest.fixture(scope="module")
def calibrated(vit_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return with_rule(vit_bundle, tmp_path_factory.mktemp("rule") / "c.glass", (0.0,) * 4)


def test_the_policy_allows_the_pages_own_script_and_server_alone(served: Server):
    page = render_page(served.facts)
    directives = dict(each.split(" ", 1) for each in page.policy.split("; "))
    assert directives["default-src"] == directives["frame-ancestors"] == "'none'"
    assert directives["connect-src"] == "'self'"
    assert directives["img-src"] == "blob: data:"
    for name in ("script-src", "style-src"):
        assert directives[name].startswith("'sha256-")
        assert len(directives[name].split()) == 1


def test_what_facts_say_cannot_become_markup(served: Server, browser: Browser, tmp_path: Path):
    bundle = "</script><script>document.title = 'run'</script>.glass@0"
    page = render_page(msgspec.structs.replace(served.facts, bundle=bundle))
    (tmp_path / "page.html").write_bytes(page.html)
    found = open_page(browser, (tmp_path / "page.html").as_uri())
    assert found.page.title() == "Judge pictures - glass-edge"
    assert bundle in found.page.locator(".facts").inner_text()
    found.page.context.close()


# --- verdicts ---------------------------------------------------------------------------------


def test_several_pictures_are_judged_as_python_judges_them(opened: Opened, served: Server):
    page = opened.page
    choose(page, PHOTOGRAPHS[:6])
    names = [each.get_attribute("aria-label") for each in cards(page, 6)]
    verdicts = [served.verdict(each.read_bytes()) for each in PHOTOGRAPHS[:6]]
    for name, path, verdict in zip(names, PHOTOGRAPHS, verdicts, strict=False):
        assert name == f"{path.name}: {verdict.verdict}, P(fake) {verdict.score:.4f}"
    records = [json.loads(line) for line in saved(page, "#save-jsonl").splitlines()]
    for record, path, verdict in zip(records, PHOTOGRAPHS, verdicts, strict=False):
        expected = msgspec.structs.replace(verdict, path=path.name)
        assert msgspec.convert(record, Verdict) == expected
    rows = [*csv.DictReader(io.StringIO(saved(page, "#save-csv")))]
    assert [float(row["score"]) for row in rows] == [verdict.score for verdict in verdicts]


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_can_be_dropped_and_pasted(event, opened: Opened, served: Server):
    content = PHOTOGRAPHS[0].read_bytes()
    give(opened.page, event, {"given.jpg": content})
    [card] = cards(opened.page, 1)
    assert card.locator(".path").inner_text() == "given.jpg"
    assert card.locator(".word").inner_text() == served.verdict(content).verdict


def test_the_keyboard_is_enough(opened: Opened):
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    choose(page, PHOTOGRAPHS[:2])
    first, _ = cards(page, 2)
    first.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    assert page.locator("#detail-title").inner_text() == PHOTOGRAPHS[1].name
    page.keyboard.press("Escape")
    wait_until(page, "document.activeElement === document.querySelectorAll('button.card')[1]")


def test_the_details_show_crops_influence_and_claims(opened: Opened, served: Server):
    page = opened.page
    content = PHOTOGRAPHS[0].read_bytes()
    choose(page, payload(content))
    [card] = cards(page, 1)
    verdict = served.verdict(content)
    assert rectangles(card) == [
        pytest.approx(each, abs=1e-3) for each in upright_places(verdict, 1)
    ]
    card.click()
    detail = page.locator("#detail")
    caption = "document.querySelector('.shown p').textContent"
    wait_until(page, f"{caption}.startsWith('This is your file')")
    assert rectangles(detail.locator(".picture")) == rectangles(card)
    assert "This is your file. The server has not kept it." in detail.inner_text()
    assert "Claims can be forged or stripped" in detail.locator(".claims").inner_text()
    assert "Unsigned statements" in detail.locator(".claims").inner_text()
    for number, crop in enumerate(verdict.crops, 1):
        figure = detail.locator(f'.crop[data-crop="{number}"]')
        size = abs(crop.influence)
        words = f"P(fake) by {size:.3f}" if size >= 0.001 else "by less than 0.001"
        assert words in figure.locator(".influence").inner_text()
        assert figure.locator("canvas").count() == 1


def test_crops_are_cut_from_the_file_itself(opened: Opened, served: Server):
    page = opened.page
    content = encoded(Image.open(PHOTOGRAPHS[0]).resize((500, 400)), "PNG")
    choose(page, payload(content, "photo.png", "image/png"))
    cards(page, 1)[0].click()
    wait_until(page, "document.querySelector('.crop canvas')?.width > 0")
    pixels = page.evaluate("""() => {
        const canvas = document.querySelector('.crop[data-crop="1"] canvas');
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return Array.from(data);
    }""")
    crop = served.verdict(content).crops[0]
    place = (crop.left, crop.top, crop.left + crop.width, crop.top + crop.height)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB").crop(place))
    found = np.array(pixels, np.uint8).reshape(crop.height, crop.width, 4)
    np.testing.assert_array_equal(found[..., :3], expected)


def exif_of(orientation: int, order: str) -> bytes:
    """EXIF that says nothing but an orientation, in a byte order of ``struct``."""
    mark = b"II" if order == "<" else b"MM"
    entry = struct.pack(f"{order}HHIHH", EXIF_ORIENTATION, 3, 1, orientation, 0)
    header = mark + struct.pack(f"{order}HIH", 42, 8, 1)
    return b"Exif\0\0" + header + entry + bytes(4)


@pytest.mark.parametrize(
    ("kind", "orientation", "order"),
    [
        *[("JPEG", 6, ">"), slow("PNG", 6, "<")],
        *[slow("JPEG", turn, "<") for turn in (2, 3, 6, 8, 9)],
    ],
)
def test_crops_are_drawn_where_they_were_on_a_turned_photograph(
    kind, orientation, order, opened: Opened, served: Server
):
    exif = exif_of(orientation, order)
    content = encoded(Image.open(PHOTOGRAPHS[0]).resize((520, 390)), kind, exif=exif)
    verdict = served.verdict(content)
    assert (verdict.width, verdict.height) == (520, 390)
    choose(opened.page, payload(content, "phone", f"image/{kind.lower()}"))
    [card] = cards(opened.page, 1)
    expected = upright_places(verdict, orientation)
    assert rectangles(card) == [pytest.approx(each, abs=1e-3) for each in expected]
    upright = (390, 520) if 5 <= orientation <= 8 else (520, 390)
    image = card.locator("img").element_handle()
    wait_until(opened.page, "document.querySelector('.card img').complete")
    assert tuple(image.evaluate("each => [each.naturalWidth, each.naturalHeight]")) == upright
    assert image.evaluate("each => each.loading") == "lazy"


def test_a_picture_that_browsers_do_not_show_has_its_verdict(opened: Opened, served: Server):
    content = encoded(Image.open(PHOTOGRAPHS[0]).resize((400, 300)), "TIFF")
    choose(opened.page, payload(content, "scan.tiff", "image/tiff"))
    [card] = cards(opened.page, 1)
    assert card.locator(".word").inner_text() == served.verdict(content).verdict
    assert "TIFF" in card.locator(".face").inner_text()
    assert "This browser does not show it." in card.locator(".face").inner_text()
    card.click()
    wait_until(opened.page, "!document.querySelector('.shown').innerText.includes('Opening')")
    assert "does not change the verdict" in opened.page.locator(".shown").inner_text()


@pytest.mark.slow
def test_all_outlines_follow_one_scale(opened: Opened, served: Server):
    """Also those that were drawn before a picture with more attention on one crop came."""
    page = opened.page
    attention = {
        path: [crop.attention for crop in served.verdict(path.read_bytes()).crops]
        for path in PHOTOGRAPHS[:4]
    }
    rising = sorted(attention, key=lambda path: max(attention[path]))
    for count, path in enumerate(rising, 1):
        choose(page, path)
        found = cards(page, count)
    most = max(attention[rising[-1]])
    assert max(attention[rising[0]]) < 0.95 * most
    for card, path in zip(found, rising, strict=True):
        lines = card.locator(".outlines .line").all()
        widths = [float(line.get_attribute("stroke-width")) for line in lines]
        assert widths == pytest.approx([1 + 3 * each / most for each in attention[path]], abs=0.006)


# --- what goes wrong --------------------------------------------------------------------------


def test_what_is_no_picture_shows_the_servers_sentence(opened: Opened, served: Server):
    content = PHOTOGRAPHS[0].read_bytes()[:5000]
    [record] = served.detector.stream([content])
    choose(opened.page, payload(content, "cut.jpg"))
    [card] = cards(opened.page, 1)
    assert record.error.message in card.inner_text()
    card.click()
    assert record.error.message in opened.page.locator("#detail").inner_text()


def test_an_answer_without_a_record_shows_its_sentence(opened: Opened):
    choose(opened.page, payload(b"words", "notes.txt", "text/plain"))
    [card] = cards(opened.page, 1)
    assert "HTTP 415" in card.inner_text()
    assert "a body of type 'text/plain' is not judged" in card.inner_text()


def test_a_busy_server_is_asked_again(opened: Opened):
    page = opened.page
    asked: list[Route] = []

    def busy_at_first(route: Route) -> None:
        asked.append(route)
        if len(asked) > 1:
            route.continue_()
        else:
            body = '{"error": "the queue is full."}'
            route.fulfill(status=503, headers={"Retry-After": "2"}, body=body)

    stop_time(page)
    page.route("**/v1/judge*", busy_at_first)
    choose(page, PHOTOGRAPHS[0])
    waiting = page.get_by_text("The server is busy: try 2 of 6 in 2 seconds.")
    waiting.wait_for()
    page.clock.run_for(1999)
    assert waiting.is_visible()
    page.clock.run_for(1)
    [card] = cards(page, 1)
    assert card.locator(".word").count() == 1
    assert len(asked) == 2


@pytest.mark.parametrize("asked", ["60", "3600"])
def test_a_busy_server_is_left_alone_for_a_minute_at_most(asked: str, opened: Opened):
    def busy(route: Route) -> None:
        body = '{"error": "the queue is full."}'
        route.fulfill(status=503, headers={"Retry-After": asked}, body=body)

    opened.page.route("**/v1/judge*", busy)
    choose(opened.page, PHOTOGRAPHS[0])
    opened.page.get_by_text("try 2 of 6 in 60 seconds.").wait_for()


def test_a_browser_may_leave_pictures_far_from_the_screen_unread(opened: Opened):
    hold(opened.page)
    choose(opened.page, PHOTOGRAPHS[:2])
    opened.page.locator(".card.waiting img").first.wait_for(state="attached")
    loading = "images => images.map((image) => image.loading)"
    assert set(opened.page.eval_on_selector_all(".card img", loading)) == {"lazy"}


def test_a_server_that_stays_busy_is_given_up(opened: Opened):
    def busy(route: Route) -> None:
        route.fulfill(status=503, body='{"error": "the queue is full."}')

    stop_time(opened.page)
    opened.page.route("**/v1/judge*", busy)
    choose(opened.page, PHOTOGRAPHS[0])
    for attempt in range(2, 7):
        opened.page.get_by_text(f"try {attempt} of 6 in 1 second.").wait_for()
        opened.page.clock.run_for(1000)
    [card] = cards(opened.page, 1)
    assert "the queue is full." in card.inner_text()


def test_a_server_that_is_gone_is_said(opened: Opened):
    opened.page.route("**/v1/judge*", lambda route: route.abort())
    choose(opened.page, PHOTOGRAPHS[0])
    [card] = cards(opened.page, 1)
    assert "the server could not be reached" in card.inner_text()
    opened.complaints.clear()  # that the browser could not reach it, either


def test_a_file_that_is_too_large_is_not_sent(opened: Opened):
    choose(opened.page, payload(bytes(MAX_BYTES + 1), "large.jpg"))
    [card] = cards(opened.page, 1)
    assert "it has 4,194,305 bytes" in card.inner_text()
    assert not any("judge" in url for url in opened.requests)


def test_a_file_that_is_gone_is_said(opened: Opened, tmp_path: Path):
    page = opened.page
    held = hold(page)
    removed = tmp_path / "removed.jpg"
    removed.write_bytes(PHOTOGRAPHS[0].read_bytes())
    choose(page, [*PHOTOGRAPHS[:4], removed])
    wait_for_held(page, held, 4)
    removed.unlink()
    while held:
        held.pop().continue_()
    card = page.locator("button.card", has_text="removed.jpg")
    assert "it cannot be read" in card.inner_text()
    cards(page, 5)


def test_a_name_cannot_become_markup(opened: Opened):
    page = opened.page
    choose(page, payload(PHOTOGRAPHS[0].read_bytes(), HOSTILE))
    [card] = cards(page, 1)
    shown = HOSTILE.replace("\u202e", "\\u202e")
    assert card.locator(".path").inner_text() == shown
    card.click()
    assert page.locator("#detail-title").inner_text() == shown
    assert page.locator("img[src=x]").count() == 0
    page.keyboard.press("Escape")
    assert json.loads(saved(page, "#save-jsonl"))["path"] == HOSTILE


def test_no_more_than_four_pictures_are_sent_at_once(opened: Opened):
    page = opened.page
    held = hold(page)
    choose(page, PHOTOGRAPHS[:6])
    wait_for_held(page, held, 4)
    page.wait_for_timeout(200)
    assert len(held) == 4
    assert page.get_by_text("waiting", exact=True).count() == 2
    assert page.locator("#count").inner_text() == "0 of 6 done"
    held[0].continue_()
    cards(page, 1)
    wait_for_held(page, held, 5)
    assert page.get_by_text("being judged").count() == 4
    assert len(held) == 5
    for each in held[1:]:
        each.abort()
    page.unroute_all(behavior="ignoreErrors")
    opened.complaints.clear()  # of the aborted ones


@pytest.mark.slow
def test_clear_removes_all_and_lets_go_of_the_files(opened: Opened):
    page = opened.page
    choose(page, PHOTOGRAPHS[:3])
    cards(page, 3)
    urls = page.eval_on_selector_all(".card img", "images => images.map(({ src }) => src)")
    assert len(set(urls)) == 3
    assert all(page.evaluate(OPENS, url) for url in urls)
    page.locator("#clear").click()
    assert page.locator(".card").count() == 0
    assert not page.locator("#bar").is_visible()
    assert not any(page.evaluate(OPENS, url) for url in urls)
    opened.complaints.clear()  # that these addresses lead nowhere
    choose(page, PHOTOGRAPHS[:1])
    cards(page, 1)
