"""Well-formed requests, for good images and bad: each has exactly one answer."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from urllib.parse import quote

from fuzz.mutate import mutated

from .exchange import IMAGE, OK, REFUSED, Exchange, Expected, Maker, Request, cut, identity
from .forms import KIND, bad_form, damaged_form, filename, form, part
from .pictures import hostile_file, photographs

MAX_BYTES = 1 << 20
"""The largest body of the server that is asked."""
MAX_CROPS = 16
_JUDGE = "/v1/judge"
_INFER = "/v2/models/glass/infer"
_PATHS = ("/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/v2", "/v2/health/live",
          "/v2/health/ready", "/v2/models/glass", "/v2/models/glass/ready",
          "/v2/models/glass/versions/1", "/v2/models/glass/versions/1/ready")  # fmt: skip
_ASKED = ("", "crops=1", "crops=3", "threshold=0.3", "influence=true", "provenance=true",
          "crops=4&influence=1")  # fmt: skip
_VALUES = ("", "0", "1", "-1", "16", "17", "1e3", "nan", "inf", "0.5", "auto", "true", "no",
           "\u0663", "9" * 5000, "9223372036854775808", "\0", "%", "a&seed", "None",
           "[1]")  # fmt: skip
_REFUSED_TYPES = ("text/plain", "application/json", "multipart/mixed; boundary=a", ";", "video/mp4",
                  "application/x-www-form-urlencoded", "\xff")  # fmt: skip


def photograph(chance: random.Random) -> Exchange:
    """A photograph, and options that draw the same crops each time."""
    request, expected = _photograph(chance)
    return Exchange("photograph", cut(request.written(), chance), (expected,))


def _photograph(chance: random.Random) -> tuple[Request, Expected]:
    number, asked = _choice(chance)
    name = identity(chance)
    request = Request(f"{_JUDGE}?{asked}", photographs()[number], "image/*", identity=name)
    return request, Expected(OK, "POST", name, 1, (number, asked))


def _choice(chance: random.Random) -> tuple[int, str]:
    asked = chance.choice(_ASKED)
    return chance.randrange(len(photographs())), f"seed={chance.randrange(2)}&{asked}".rstrip("&")


def chunks(chance: random.Random) -> Exchange:
    """A photograph in chunks of odd sizes, and not always in packets of the same."""
    request, expected = _photograph(chance)
    sizes = [chance.choice((1, 2, 7, 1000, 4095, 8193)) for _ in range(60)]
    pieces = request.chunked(sizes)
    if chance.random() < 0.5:
        pieces = cut(b"".join(pieces), chance)
    return Exchange("chunks", pieces, (expected,))


def awaited(chance: random.Random) -> Exchange:
    """A photograph that comes when the server says that it may, or at once."""
    request, expected = _photograph(chance)
    request = replace(request, headers=(("Expect", "100-continue"),))
    head, _, body = request.written().partition(b"\r\n\r\n")
    return Exchange(
        "expect", (head + b"\r\n\r\n", body), (expected,), pause=chance.choice((0, 0.05))
    )


def photographs_in_form(chance: random.Random) -> Exchange:
    """Several photographs; their records come in their order."""
    asked = f"seed={chance.randrange(2)}&crops=2"
    numbers = [chance.randrange(len(photographs())) for _ in range(chance.randrange(1, 5))]
    body = form([part(photographs()[number], filename=filename(chance)) for number in numbers])
    name = identity(chance)
    request = Request(f"{_JUDGE}?{asked}", body, KIND, identity=name)
    expected = Expected(OK, "POST", name, len(numbers), (*numbers, asked))
    return Exchange("form", cut(request.written(), chance), (expected,))


def crowd(chance: random.Random) -> Exchange:
    """Many photographs, looked at as often as is allowed."""
    asked = chance.choice((f"crops={MAX_CROPS}&influence=true", f"crops={MAX_CROPS}", ""))
    contents = [chance.choice(photographs()) for _ in range(8)]
    name = identity(chance)
    request = Request(f"{_JUDGE}?{asked}", form([part(each) for each in contents]), KIND,
                      identity=name)  # fmt: skip
    return Exchange("crowd", (request.written(),), (Expected(OK, "POST", name, len(contents)),))


def hostile_image(chance: random.Random) -> Exchange:
    """An image of a hostile kind."""
    name = identity(chance)
    request = Request(_JUDGE, hostile_file(chance), chance.choice(("image/png", "")), identity=name)
    return Exchange("hostile", cut(request.written(), chance), (Expected(IMAGE, "POST", name, 1),))


def hostile_images_in_form(chance: random.Random) -> Exchange:
    """Hostile images with a photograph among them."""
    contents = [hostile_file(chance) for _ in range(chance.randrange(1, 4))]
    contents.insert(chance.randrange(len(contents) + 1), chance.choice(photographs()))
    name = identity(chance)
    body = form([part(content) for content in contents])
    request = Request(f"{_JUDGE}?crops=1", body, KIND, identity=name)
    expected = Expected(OK, "POST", name, len(contents))
    return Exchange("hostile form", cut(request.written(), chance), (expected,))


def refused_form(chance: random.Random) -> Exchange:
    """A form that is none, or has what is not asked for."""
    what, kind, body = bad_form(chance)
    name = identity(chance)
    request = Request(_JUDGE, body, kind, identity=name)
    return Exchange(
        f"form: {what}", cut(request.written(), chance), (Expected(REFUSED, "POST", name),)
    )


def mutated_form(chance: random.Random) -> Exchange:
    """A form with damage anywhere."""
    name = identity(chance)
    request = Request(_JUDGE, damaged_form(chance), KIND, identity=name)
    return Exchange(
        "damaged form", (request.written(),), (Expected(IMAGE | REFUSED, "POST", name),)
    )


def options(chance: random.Random) -> Exchange:
    """A photograph with options that may have any value."""
    names = ("crops", "seed", "threshold", "provenance", "influence", "crop", "", "\u00e4")
    query = "&".join(
        f"{quote(chance.choice(names))}={quote(chance.choice(_VALUES), safe='&%=')}"
        for _ in range(chance.randrange(1, 4))
    )
    name = identity(chance)
    request = Request(f"{_JUDGE}?{query}", chance.choice(photographs()), identity=name)
    return Exchange("options", (request.written(),), (Expected(OK | REFUSED, "POST", name),))


def infer(chance: random.Random) -> Exchange:
    """Photographs by the Open Inference Protocol."""
    name = identity(chance)
    asked, count = f"crops={chance.randrange(1, 4)}", chance.randrange(1, 4)
    numbers = [chance.randrange(len(photographs())) for _ in range(count)]
    header, data = _inference([photographs()[number] for number in numbers], int(asked[6:]))
    request = _infer_request(header, data, len(header), name)
    expected = Expected(OK, "POST", name, same=("infer", *numbers, asked))
    return Exchange("infer", cut(request.written(), chance), (expected,))


def damaged_infer(chance: random.Random) -> Exchange:
    """The same with damage to its JSON, its lengths or its images."""
    header, data = _inference([chance.choice(photographs()), hostile_file(chance)], 1)
    damage, length = chance.randrange(4), len(header)
    if damage == 0:
        header = mutated([header], str(chance.random()))
        length = len(header)
    elif damage == 1:
        data = mutated([data], str(chance.random()))
    elif damage == 2:
        header = header.replace(b"[2]", chance.choice((b"[0]", b"[-1]", b"[999999999]", b"[[2]]")))
        length = len(header)
    else:
        length = chance.choice((0, -1, 1, 10**9, 10**30))
    name = identity(chance)
    request = _infer_request(header, data, length, name)
    return Exchange("damaged infer", (request.written(),), (Expected(OK | REFUSED, "POST", name),))


def _inference(images: list[bytes], crops: int) -> tuple[bytes, bytes]:
    data = b"".join(len(image).to_bytes(4, "little") + image for image in images)
    tensor = {
        "name": "IMAGE",
        "datatype": "BYTES",
        "shape": [len(images)],
        "parameters": {"binary_data_size": len(data)},
    }
    header = {"inputs": [tensor], "parameters": {"crops": crops, "seed": 0}}
    return json.dumps(header).encode(), data


def _infer_request(header: bytes, data: bytes, length: int, name: str) -> Request:
    headers = (("Inference-Header-Content-Length", str(length)),)
    return Request(_INFER, header + data, identity=name, headers=headers)


def looks(chance: random.Random) -> Exchange:
    """What a person, a load balancer or Prometheus asks."""
    request, expected = _look(chance)
    return Exchange("look", (request.written(),), (expected,))


def _look(chance: random.Random) -> tuple[Request, Expected]:
    name, method = identity(chance), chance.choice(("GET", "GET", "HEAD"))
    request = Request(chance.choice(_PATHS), method=method, identity=name)
    return request, Expected(OK, method, name)


def pipelined(chance: random.Random) -> Exchange:
    """Several requests before the first answer."""
    made = [
        chance.choice((_photograph, _look, _look))(chance) for _ in range(chance.randrange(2, 8))
    ]
    content = b"".join(request.written() for request, _ in made)
    answers = tuple(expected for _, expected in made)
    return Exchange("pipelined", cut(content, chance), answers)


def elsewhere(chance: random.Random) -> Exchange:
    """A method or a path that there is not, with a body or without."""
    name = identity(chance)
    path = chance.choice((*_PATHS, _JUDGE, _INFER, "/v1", "//", "/%00", "/..%2f", "/" + "a" * 3000,
                          "*", "http://other/v1/judge", "/v2/models/other/infer"))  # fmt: skip
    method = chance.choice(("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"))
    body = chance.choice((None, b"", chance.choice(photographs())))
    request = Request(path, body, method=method, identity=name)
    return Exchange("elsewhere", (request.written(),), (Expected({404, 405}, method, name),))


def other_types(chance: random.Random) -> Exchange:
    """A body of a type that is not judged."""
    name = identity(chance)
    kind = chance.choice(_REFUSED_TYPES)
    request = Request(_JUDGE, chance.choice(photographs()), kind, identity=name)
    return Exchange("other type", (request.written(),), (Expected({415}, "POST", name),))


def oversized(chance: random.Random) -> Exchange:
    """A body beyond what is allowed, which says its length or does not."""
    name = identity(chance)
    path, kind = chance.choice(((_JUDGE, "image/png"), (_JUDGE, KIND), (_INFER, "")))
    body = (form([part(bytes(MAX_BYTES))]) if kind == KIND else bytes(MAX_BYTES + 1)) + b"\0" * 9
    request = Request(path, body, kind, identity=name)
    pieces = (request.written(),) if chance.random() < 0.5 else request.chunked([1 << 18] * 9)
    return Exchange("oversized", pieces, (Expected({413}, "POST", name),))


POLITE: dict[Maker, int] = {
    photograph: 200,
    photographs_in_form: 60,
    hostile_image: 200,
    hostile_images_in_form: 60,
    chunks: 40,
    awaited: 20,
    refused_form: 50,
    mutated_form: 30,
    options: 40,
    infer: 40,
    damaged_infer: 40,
    looks: 50,
    pipelined: 25,
    elsewhere: 40,
    other_types: 20,
    oversized: 10,
}
"""How often each is made."""
