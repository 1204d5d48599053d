"""POST /v1/judge of the real server: what it takes, what it answers, and what it writes down."""

from __future__ import annotations

import gzip
import io
import json
import re
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import msgspec
import pytest
from conftest import call, encoded, with_rule
from glass_edge.runtime.claims.claims import ClaimOptions
from PIL import Image
from serving import Server, serving

from glass_edge import Bundle, Detector, DetectorOptions, Failure, Verdict

JUDGE = "/v1/judge"
OCTETS = {"Content-Type": "application/octet-stream"}
HOSTILE = (
    "../../etc/passwd", "C:\\photos\\cat.jpg", 'a"b.jpg', "<script>.jpg", "\u202egpj.exe",
    "Fußgängerübergang.jpg", "猫 🐈.png", "a;b=c.jpg", "x" * 300, " ",
)  # fmt: skip


@pytest.fixture(scope="module")
def bundle(vit_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """With a stopping rule that needs all its crops of some images."""
    return with_rule(vit_bundle, tmp_path_factory.mktemp("rule") / "vit.glass", (0.3, 0.2, 0.1, 0))


@pytest.fixture(scope="module")
def server(bundle: Bundle) -> Iterator[Server]:
    with serving(bundle, "--max-crops", 16, "--workers", 2) as started:
        yield started


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Detector:
    return Detector(bundle)


@pytest.fixture(scope="module")
def picture(photograph: Image.Image) -> bytes:
    return encoded(photograph.resize((400, 300)), "JPEG")


def judged(answer: httpx.Response) -> Verdict:
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=Verdict)


def error_of(answer: httpx.Response, status: int) -> str:
    """Return the one sentence of an answer that says why there is none."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert list(answer.json()) == ["error"]
    sentence = answer.json()["error"]
    assert sentence.endswith((".", "?"))
    return sentence


def alike(one: Verdict, other: Verdict) -> bool:
    """Whether two records say the same, but for the last digits, which a batch's size may move."""
    plain, expected = msgspec.to_builtins(one), msgspec.to_builtins(other)
    return _rounded(plain) == _rounded(expected)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return pytest.approx(value, abs=1e-5)
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value


# --- one image --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "PPM"])
@pytest.mark.parametrize("content_type", ["image", "octets", None])
def test_the_bytes_of_an_image_are_judged_whatever_they_are_called(
    kind, content_type, client, detector, picture
):
    content = encoded(Image.open(io.BytesIO(picture)), kind)
    called = {"image": f"image/{kind.lower()}", "octets": "application/octet-stream"}
    headers = {} if content_type is None else {"Content-Type": called[content_type]}
    found = judged(client.post(JUDGE, content=content, headers=headers))
    [expected] = detector.detect([content])
    assert alike(found, expected)
    assert (found.path, found.file) == (None, None)


def test_photographs_get_glass_runs_records(client, bundle, photographs, tmp_path):
    done = call("glass-run", tmp_path, *photographs, "-b", bundle.path, "-o", "-")
    for line, path in zip(done.stdout.splitlines(), photographs, strict=True):
        answer = client.post(JUDGE, content=path.read_bytes())
        record = json.loads(line)
        assert list(answer.json()) == list(record)  # the fields, in their order
        expected = record | {"path": None, "file": None}
        assert answer.json() == _rounded(expected)


def test_an_image_that_cannot_be_judged_is_422_with_its_record(client, detector, picture):
    for content in (b"", b"no image", picture[:1000]):
        answer = client.post(JUDGE, content=content, headers={"Content-Type": "image/jpeg"})
        assert answer.status_code == 422
        [expected] = detector.stream([content])
        assert msgspec.json.decode(answer.content, type=Failure) == expected


# --- several ----------------------------------------------------------------------------------


def test_a_form_with_one_file_is_answered_with_its_record(client, detector, picture):
    found = judged(client.post(JUDGE, files={"file": ("cat.jpg", picture, "image/jpeg")}))
    [expected] = detector.detect([picture])
    assert found.path == "cat.jpg"
    assert alike(msgspec.structs.replace(found, path=None), expected)


def test_a_form_with_a_bad_file_alone_is_422(client):
    answer = client.post(JUDGE, files={"file": ("notes.txt", b"words")})
    assert answer.status_code == 422
    assert msgspec.json.decode(answer.content, type=Failure).path == "notes.txt"


def test_several_files_are_answered_in_order_errors_among_them(client, detector, photographs):
    files = [("file", (path.name, path.read_bytes())) for path in photographs]
    files.insert(3, ("file", ("words.txt", b"words")))
    answer = client.post(JUDGE, files=files)
    assert answer.status_code == 200
    assert [record["path"] for record in answer.json()] == [name for _, (name, _) in files]
    assert [record["status"] for record in answer.json()].index("error") == 3
    records = [record for record in answer.json() if record["status"] == "ok"]
    for record, expected in zip(records, detector.detect(photographs), strict=True):
        found = msgspec.convert(record | {"path": expected.path, "file": expected.file}, Verdict)
        assert alike(found, expected)


def test_names_come_back_as_they_came(client, picture):
    answer = client.post(JUDGE, files=[("file", (name, picture)) for name in HOSTILE])
    # Clients write a quotation mark as %22, and of a path from Windows only the name is taken.
    expected = [name.replace('"', "%22").rpartition("\\")[2] for name in HOSTILE]
    assert [record["path"] for record in answer.json()] == expected


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([("file", ("a.jpg", b"x")), ("image", ("b.jpg", b"x"))], "a part named 'image': name the"),
        ([("file", (None, b"x"))], "the form cannot be read"),
        ([("file", (f"{number}", b"x")) for number in range(65)], "send one to 64 files"),
    ],
)
def test_forms_with_other_parts_are_refused(files, words, client):
    assert words in error_of(client.post(JUDGE, files=files), 400)


@pytest.mark.parametrize(
    ("boundary", "body"),
    [
        ("; boundary=x", b"--x--\r\n"),
        ("; boundary=x", b""),
        ("; boundary=x", b"--y\r\nno form"),
        ("; boundary=x", b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'),
        ("", b"--x--\r\n"),
        ("; boundary=" + "x" * 1000, b"--x--\r\n"),
    ],
)
def test_forms_that_are_none_are_refused(boundary, body, client):
    headers = {"Content-Type": "multipart/form-data" + boundary}
    assert "the form" in error_of(client.post(JUDGE, content=body, headers=headers), 400)


# --- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("crops=3", DetectorOptions(crops=3)),
        ("crops=16&seed=-9", DetectorOptions(crops=16, seed=-9)),
        ("crops=auto", DetectorOptions(crops="auto")),
        ("crops=auto&influence=true", DetectorOptions(crops="auto", influence=True)),
        ("seed=9223372036854775807", DetectorOptions(seed=2**63 - 1)),
        ("threshold=0", DetectorOptions(threshold=0.0)),
        ("threshold=1", DetectorOptions(threshold=1.0)),
        ("influence=1&crops=2", DetectorOptions(influence=True, crops=2)),
        ("influence=false&provenance=0", DetectorOptions()),
        ("provenance=true", DetectorOptions(claims=ClaimOptions(provenance=True))),
        ("provenance=TRUE", DetectorOptions(claims=ClaimOptions(provenance=True))),
    ],
)
def test_options_are_the_detectors(query, options, client, bundle, picture):
    found = judged(client.post(f"{JUDGE}?{query}", content=picture))
    [expected] = Detector(bundle, options).detect([picture])
    assert alike(found, expected)


def test_options_hold_for_all_files_of_a_form(client, picture):
    answer = client.post(f"{JUDGE}?crops=2", files=[("file", (name, picture)) for name in "ab"])
    assert [len(record["crops"]) for record in answer.json()] == [2, 2]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("crop=4", "there is no option 'crop': did you mean crops?"),
        ("colour=red", "there is no option 'colour': use crops, seed, threshold,"),
        ("x%0aForged=1", r"there is no option 'x\\nForged'"),
        ("crops=2&crops=2", "crops is given twice: give it once."),
        ("crops=many", "crops must be a whole number or auto, not 'many'."),
        ("crops=2.5", "crops must be a whole number or auto, not '2.5'."),
        ("crops=", "crops must be a whole number or auto, not ''."),
        ("crops=0", "crops must lie between 1 and 1024, not 0."),
        ("crops=17", "17 crops are more than the 16 that this server allows."),
        ("seed=1e3", "seed must be a whole number, not '1e3'."),
        ("seed=9223372036854775808", "seed must fit in 64 bits"),
        ("threshold=1.5", "threshold must lie between 0 and 1, not 1.5."),
        ("threshold=nan", "threshold must be a number from 0 to 1, not 'nan'."),
        ("threshold=high", "threshold must be a number from 0 to 1, not 'high'."),
        ("provenance=yes", "provenance must be true or false, not 'yes'."),
        ("influence=2", "influence must be true or false, not '2'."),
        ("crops=auto&threshold=0.9", "threshold"),
    ],
)
def test_options_that_make_no_sense_are_refused(query, words, client, picture):
    assert words in error_of(client.post(f"{JUDGE}?{query}", content=picture), 400)


@pytest.mark.parametrize("value", ["1_0", "%D9%A3", "%204", "4%0a"])
def test_numbers_are_written_as_in_json(value, client, picture):
    """As the description of the server says; Python's int() takes more."""
    for name in ("crops", "seed", "threshold"):
        assert f"{name} must be" in error_of(client.post(f"{JUDGE}?{name}={value}"), 400)


def test_what_is_quoted_of_a_long_value_is_its_beginning(client):
    sentence = error_of(client.post(f"{JUDGE}?seed={'9' * 5000}"), 400)
    assert len(sentence) < 200


# --- what is not answered ---------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1", "/v1/judge/", "/v1/judges", "/docs", "/favicon.ico"])
def test_a_path_that_is_not_there_is_404(path, client):
    assert "/openapi.json says what there is" in error_of(client.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", JUDGE, {"POST"}),
        ("PUT", JUDGE, {"POST"}),
        ("OPTIONS", JUDGE, {"POST"}),
        ("POST", "/metrics", {"GET", "HEAD"}),
        ("DELETE", "/", {"GET", "HEAD"}),
        ("GET", "/v2/models/glass/infer", {"POST"}),
    ],
)
def test_a_method_that_is_not_there_is_405(method, path, allowed, client):
    answer = client.request(method, path)
    assert f"{method} is not answered here" in error_of(answer, 405)
    assert set(answer.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "imagex/png", "IMAGE", "a;b"])
def test_other_kinds_of_bodies_are_415(kind, client, picture):
    answer = client.post(JUDGE, content=picture, headers={"Content-Type": kind})
    assert "multipart/form-data" in error_of(answer, 415)


def test_a_compressed_image_is_415(client, picture):
    headers = {"Content-Type": "image/jpeg", "Content-Encoding": "gzip"}
    answer = client.post(JUDGE, content=gzip.compress(picture), headers=headers)
    assert "'gzip', which is not decoded here" in error_of(answer, 415)


def test_head_asks_for_no_body(client):
    for path in ("/readyz", "/metrics", "/", "/openapi.json"):
        answer = client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
    assert client.head(JUDGE).status_code == 405


# --- names of requests, lines and metrics ------------------------------------------------------


def test_a_request_keeps_the_name_that_it_came_with(client, server, picture):
    for path, name in ((JUDGE, "trace:1/a.b+c=@-_"), ("/nothing", "x" * 128)):
        answer = client.post(path, content=picture, headers={"X-Request-Id": name})
        assert answer.headers["X-Request-Id"] == name
        assert server.line_of(name)["id"] == name


@pytest.mark.parametrize("name", ["", "x" * 129, "two words", 'quote"', "ümlaut"])
def test_a_name_that_cannot_be_written_down_is_replaced(name, client):
    answers = [client.get("/healthz", headers={"X-Request-Id": name.encode()}) for _ in "ab"]
    given = {answer.headers["X-Request-Id"] for answer in answers}
    assert len(given) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in given)


def test_a_request_is_one_line_that_tells_no_secrets(client, server, picture):
    files = [("file", ("secret-name.jpg", picture)), ("file", ("secret-name.txt", b"words"))]
    answer = client.post(f"{JUDGE}?seed=77", files=files)
    line = server.line_of(answer.headers["X-Request-Id"])
    assert list(line) == ["time", "id", "method", "route", "status", "bytes", "ms", "images"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line["time"])
    assert (line["method"], line["route"], line["status"]) == ("POST", JUDGE, 200)
    assert line["bytes"] == int(answer.request.headers["Content-Length"])
    good, bad = line["images"]
    record = answer.json()[0]
    assert {name: good[name] for name in ("verdict", "score", "width", "height")} == {
        name: record[name] for name in ("verdict", "score", "width", "height")
    }
    assert (good["crops"], good["together"]) == (len(record["crops"]), 1)
    assert list(good["ms"]) == ["queue", "views", "batch", "judge"]
    assert sum(good["ms"].values()) <= line["ms"]
    assert bad["error"] == "ImageError"
    text = json.dumps(line)
    assert "secret" not in text
    assert "127.0.0.1" not in text


def test_every_request_is_one_line(client, server):
    server.line_of(client.get("/healthz").headers["X-Request-Id"])
    sent = [("GET", "/healthz"), ("GET", "/nothing?secret=1"), ("POST", JUDGE), ("PUT", JUDGE)]
    for method, path in sent:
        client.request(method, path)
    found = [server.line() for _ in sent]
    assert [(each["method"], each["route"], each["status"]) for each in found] == [
        ("GET", "/healthz", 200), ("GET", "elsewhere", 404), ("POST", JUDGE, 422),
        ("PUT", JUDGE, 405),
    ]  # fmt: skip


def difference(after: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    found = {name: after[name] - before.get(name, 0) for name in after}
    return {name: value for name, value in found.items() if value}


def test_metrics_agree_with_what_was_sent(client, server, detector, picture):
    [expected] = detector.detect([picture])
    server.metrics()  # which counts itself when it is read again
    before = server.metrics()
    for content in (picture, picture, b"words"):
        client.post(JUDGE, content=content)
    client.post(JUDGE, files=[("file", (name, picture)) for name in "abc"])
    client.get("/nothing")
    found = difference(server.metrics(), before)
    assert found['glass_requests_total{code="200",route="/v1/judge"}'] == 3
    assert found['glass_requests_total{code="422",route="/v1/judge"}'] == 1
    assert found['glass_requests_total{code="404",route="elsewhere"}'] == 1
    assert found['glass_requests_total{code="200",route="/metrics"}'] == 1
    assert found[f'glass_images_total{{outcome="{expected.verdict}"}}'] == 5
    assert found['glass_images_total{outcome="error"}'] == 1
    assert found['glass_request_seconds_count{route="/v1/judge"}'] == 4
    assert found['glass_image_seconds_count{part="judge"}'] == 5
    assert found['glass_image_seconds_count{part="views"}'] == 6
    assert found["glass_batch_images_count"] == 5
    assert found['glass_stage_seconds_total{stage="infer"}'] > 0
    after = server.metrics()
    assert (after["glass_queue_images"], after["glass_queue_bytes"]) == (0, 0)
    assert after["process_resident_memory_bytes"] > 1 << 20


def test_metrics_say_what_judges(server, bundle, detector):
    (info,) = [name for name in server.metrics() if name.startswith("glass_detector_info")]
    for said in (bundle.name, bundle.digest, detector.engine, detector.precision):
        assert f'"{said}"' in info


# --- HTTP as other programs speak it -----------------------------------------------------------


def received(connection: socket.socket) -> bytes:
    """Return everything that comes until the server closes the connection."""
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def head(method: str, path: str, *lines: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: x", *lines, "", ""]).encode()


def statuses(answer: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def test_http_1_0(server, picture):
    with server.connect() as connection:
        length = f"Content-Length: {len(picture)}"
        connection.sendall(head("POST", JUDGE, length, version="1.0") + picture)
        answer = received(connection)
    assert statuses(answer) == [200]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == "ok"


def test_a_client_may_wait_until_its_body_is_asked_for(server, picture):
    with server.connect() as connection:
        lines = (f"Content-Length: {len(picture)}", "Expect: 100-continue", "Connection: close")
        connection.sendall(head("POST", JUDGE, *lines))
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(picture)
        assert statuses(received(connection)) == [200]


@pytest.mark.parametrize(("query", "length", "status"), [("?crops=0", 10, 400), ("", 1 << 40, 413)])
def test_a_body_that_would_be_refused_is_not_asked_for(query, length, status, server):
    with server.connect() as connection:
        lines = (f"Content-Length: {length}", "Expect: 100-continue", "Connection: close")
        connection.sendall(head("POST", JUDGE + query, *lines))
        assert statuses(received(connection)) == [status]


def test_requests_sent_at_once_are_answered_in_order(server, picture):
    one = head("POST", JUDGE, f"Content-Length: {len(picture)}") + picture
    other = head("GET", "/readyz")
    last = head("GET", "/nothing", "Connection: close")
    with server.connect() as connection:
        connection.sendall(one + other + one + last)
        assert statuses(received(connection)) == [200, 200, 200, 404]


def test_a_body_in_chunks_is_judged(client, detector, picture):
    pieces = [picture[start : start + 1000] for start in range(0, len(picture), 1000)]
    found = judged(client.post(JUDGE, content=iter(pieces), headers=OCTETS))
    assert alike(found, detector.detect([picture])[0])


@pytest.mark.parametrize(
    "junk", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"POST /v1/judge HTTP/1.1\r\nA: \0\r\n\r\n"]
)
def test_what_is_no_http_is_refused_and_harms_nobody(junk, server, client):
    with server.connect() as connection:
        connection.sendall(junk + bytes(100) + b"\r\n\r\n")
        assert statuses(received(connection)) in ([400], [])
    assert client.get("/readyz").status_code == 200
    assert server.errors[1:] == []
