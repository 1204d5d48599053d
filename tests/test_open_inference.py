"""The Open Inference Protocol's messages, against the functions of NVIDIA's own client.

The client writes the requests and reads the answers. No server runs here.
"""

from __future__ import annotations

import json
import math
import re
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import numpy as np
import pytest
from glass_edge.runtime.serving.open_inference.request import (
    WantedOutput,
    parse_infer,
)
from glass_edge.runtime.serving.open_inference.response import (
    infer_response,
    model_metadata,
    server_metadata,
)
from hypothesis import given
from hypothesis import strategies as st
from test_records import FAILURE, VERDICT

from glass_edge import Detector, Failure, InputError, Verdict

triton = pytest.importorskip("tritonclient.http")

MOST = 8
IMAGES = (b"\x89PNG\r\n", b"", bytes(range(256)))


def image_input(images=IMAGES, *, binary=True):
    tensor = triton.InferInput("IMAGE", [len(images)], "BYTES")
    values = np.empty(len(images), np.object_)
    values[:] = images
    return tensor.set_data_from_numpy(values, binary_data=binary)


def written(*inputs, **options) -> tuple[bytes, str | None]:
    """Return the body and the HTTP header's value of a request that the client wrote."""
    tensors = list(inputs) or [image_input()]
    body, length = triton.InferenceServerClient.generate_request_body(tensors, **options)
    return body, None if length is None else str(length)


def parsed(*request):
    return parse_infer(*request, most_images=MOST)


def edited(change, images=IMAGES) -> tuple[bytes, str]:
    """Return a request of the client whose JSON ``change`` has edited."""
    body, length = written(image_input(images))
    header = json.loads(body[: int(length)])
    change(header)
    text = json.dumps(header).encode()
    return text + body[int(length) :], str(len(text))


@contextmanager
def refused(match: str, kind: type[InputError] = InputError) -> Iterator[None]:
    """Expect a refusal in one sentence, which begins as those of the whole project do."""
    with pytest.raises(kind, match=match) as found:
        yield
    sentence = str(found.value)
    assert re.match("[a-z0-9]|IMAGE|SCORE|Inference-Header", sentence)
    assert re.search(r"[.?]$", sentence)
    assert not re.search(r"[.?] [A-Z]", sentence)


def read(answer) -> object:
    """Return an answer as the client reads it."""
    body, headers = answer
    length = headers.get("Inference-Header-Content-Length")
    assert headers["Content-Type"] == f"application/{'octet-stream' if length else 'json'}"
    return triton.InferenceServerClient.parse_response_body(
        body, header_length=None if length is None else int(length)
    )


class TestRequests:
    def test_images_are_the_elements_of_the_input(self):
        request = parsed(*written())
        assert request.images == IMAGES
        assert (request.options, request.id) == ({}, None)

    def test_a_raw_request_is_one_image(self):
        request = parsed(IMAGES[2], "0")
        assert request.images == (IMAGES[2],)
        assert request.outputs == (WantedOutput("SCORE", True), WantedOutput("RECORD", True))

    def test_the_client_gets_every_output_as_bytes_if_it_names_none(self):
        outputs = parsed(*written()).outputs
        assert outputs == (WantedOutput("SCORE", True), WantedOutput("RECORD", True))

    @pytest.mark.parametrize(
        ("own", "every", "binary"),
        [
            (True, None, True), (False, None, False), (None, None, False), (None, True, True),
            (False, True, False),
        ],
    )  # fmt: skip
    def test_an_output_says_itself_if_it_shall_be_bytes(self, own, every, binary):
        def change(header):
            header["parameters"] = {} if every is None else {"binary_data_output": every}
            parameters = {} if own is None else {"parameters": {"binary_data": own}}
            header["outputs"] = [{"name": "RECORD", **parameters}]

        assert parsed(*edited(change)).outputs == (WantedOutput("RECORD", binary),)

    def test_without_a_word_of_outputs_they_are_json(self):
        outputs = parsed(*edited(lambda header: header.pop("parameters"))).outputs
        assert outputs == (WantedOutput("SCORE", False), WantedOutput("RECORD", False))

    def test_parameters_say_how_to_judge(self):
        options = {
            "crops": "auto", "seed": -7, "threshold": 1, "provenance": True, "influence": False,
        }  # fmt: skip
        assert parsed(*written(parameters=options)).options == options
        assert parsed(*written(parameters={"crops": 4})).options == {"crops": 4}

    def test_what_the_client_may_send_without_effect_is_taken(self):
        def change(header):
            header["parameters"] = {"priority": 0, "timeout": 0, "sequence_id": ""}
            header["inputs"][0]["parameters"]["content_type"] = "image"
            header["model_name"] = "glass"

        assert parsed(*edited(change)).options == {}

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"parameters": {"crop": 4}}, "there is no parameter 'crop': did you mean crops?"),
            ({"parameters": {"crops": "many"}}, "crops must be a whole number or auto, not"),
            ({"parameters": {"seed": True}}, "seed must be a whole number of 64 bits, not 'true'."),
            ({"parameters": {"seed": 2**63}}, "seed must be a whole number of 64 bits, not"),
            ({"parameters": {"threshold": "high"}}, "threshold must be a number, not"),
            ({"parameters": {"influence": 1}}, "influence must be true or false, not '1'."),
            ({"parameters": {"x\nForged: y": 1}}, r"there is no parameter 'x\\nForged: y': use"),
            ({"sequence_id": 3}, "the parameter sequence_id is not supported here: leave it out."),
            ({"priority": 1}, "the parameter priority is not supported here: leave it out."),
            ({"timeout": 10}, "the parameter timeout is not supported here: leave it out."),
        ],
    )  # fmt: skip
    def test_parameters_that_are_not_obeyed_are_refused(self, options, sentence):
        with refused(f"^{re.escape(sentence)}"):
            parsed(*written(**options))

    @pytest.mark.parametrize(
        ("output", "sentence"),
        [
            (triton.InferRequestedOutput("SCORES"), "there is no output 'SCORES': did you mean S"),
            (triton.InferRequestedOutput("SCORE", class_count=1), "classification of SCORE"),
        ],
    )
    def test_outputs_that_are_not_there_are_refused(self, output, sentence):
        with refused(sentence):
            parsed(*written(outputs=[output]))

    def test_an_output_is_named_once(self):
        with refused("SCORE is asked for twice"):
            parsed(*written(outputs=[triton.InferRequestedOutput("SCORE")] * 2))

    def test_shared_memory_is_refused(self):
        tensor = triton.InferInput("IMAGE", [1], "BYTES")
        tensor.set_shared_memory("region", 100)
        with refused("shared memory is not supported"):
            parsed(*written(tensor))
        output = triton.InferRequestedOutput("SCORE")
        output.set_shared_memory("region", 100)
        with refused("SCORE cannot go to shared memory"):
            parsed(*written(outputs=[output]))

    def test_images_as_json_are_refused_with_advice(self):
        with refused(r"IMAGE needs binary data, .*: put .* in binary_data_size"):
            parsed(*written(image_input([b"text"], binary=False)))

    def test_no_more_images_than_allowed(self):
        assert len(parsed(*written(image_input([b"x"] * MOST))).images) == MOST
        for count in (0, MOST + 1):
            with refused(f"from 1 to 8 images, and its shape says {count}"):
                parsed(*written(image_input([b"x"] * count)))

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            (lambda image: image.update(name="image"), "there is no input 'image': use IMAGE"),
            (lambda image: image.update(datatype="UINT8"), "IMAGE is BYTES, not 'UINT8'"),
            (lambda image: image.update(shape=[3, 1]), "one number and not 2"),
            (lambda image: image.update(shape=[2]), "260 bytes are left behind the 2 images"),
            (lambda image: image.update(shape=[4]), "data end inside element 3 of 4"),
            (lambda image: image.update(shape=["3"]), r"Expected `int`, got `str` - at `\$.inputs"),
            (lambda image: image.pop("parameters"), "IMAGE needs binary data"),
            (lambda image: image["parameters"].update(binary_data_size=9), "_size is 9, and 274"),
        ],
    )
    def test_an_input_is_as_the_model_has_it(self, change, sentence):
        with refused(sentence):
            parsed(*edited(lambda header: change(header["inputs"][0])))

    @pytest.mark.parametrize("count", [0, 2])
    def test_there_is_one_input(self, count):
        with refused(f"one input, IMAGE, and the request {count}"):
            parsed(*edited(lambda header: header.update(inputs=header["inputs"] * count)))

    @pytest.mark.parametrize("length", ["-1", "1_0", "٣", "", " 5", "9" * 5000])
    def test_a_header_length_is_a_number(self, length):
        with refused("Content-Length must be a number of bytes, not"):
            parsed(written()[0], length)

    def test_a_header_fits_into_the_body(self):
        body, _ = written()
        with refused("and the body has only"):
            parsed(body, str(len(body) + 1))


class TestAnswers:
    RECORDS = (VERDICT, FAILURE)

    def check(self, result):
        scores = result.as_numpy("SCORE")
        assert scores.dtype == np.float32
        assert scores[0] == VERDICT.score
        assert math.isnan(scores[1])
        texts = [bytes(x) if isinstance(x, bytes) else x for x in result.as_numpy("RECORD")]
        assert msgspec.json.decode(texts[0], type=Verdict) == VERDICT
        assert msgspec.json.decode(texts[1], type=Failure) == FAILURE
        described = result.get_response()
        assert (described["model_name"], described["model_version"]) == ("glass", "1")

    @pytest.mark.parametrize("score", [True, False])
    @pytest.mark.parametrize("record", [True, False])
    def test_each_output_comes_as_it_was_asked_for(self, score, record):
        for order in (1, -1):
            asked = {"SCORE": score, "RECORD": record}
            outputs = [
                triton.InferRequestedOutput(name, binary_data=binary)
                for name, binary in [*asked.items()][::order]
            ]
            request = parsed(*written(outputs=outputs))
            self.check(read(infer_response(request, self.RECORDS)))

    def test_only_what_was_asked_for_comes(self):
        request = parsed(*written(outputs=[triton.InferRequestedOutput("SCORE")]))
        result = read(infer_response(request, self.RECORDS))
        assert [output["name"] for output in result.get_response()["outputs"]] == ["SCORE"]
        assert result.as_numpy("RECORD") is None

    def test_the_default_of_the_client_and_of_the_protocol(self):
        self.check(read(infer_response(parsed(*written()), self.RECORDS)))
        plain = parsed(*edited(lambda header: header.pop("parameters")))
        body, headers = infer_response(plain, self.RECORDS)
        assert headers == {"Content-Type": "application/json"}
        assert json.loads(body)["outputs"][0]["data"] == [VERDICT.score, None]
        self.check(read((body, headers)))

    @given(st.text())
    def test_the_name_of_a_request_comes_back(self, name):
        request = parsed(*edited(lambda header: header.update(id=name)))
        assert read(infer_response(request, self.RECORDS)).get_response()["id"] == name

    def test_a_request_without_a_name_has_none(self):
        assert "id" not in read(infer_response(parsed(*written()), self.RECORDS)).get_response()

    def test_photographs_get_the_detectors_verdicts(self, vit_bundle, photographs):
        files = [path.read_bytes() for path in photographs[:3]] + [b"no image"]
        request = parsed(*written(image_input(files)))
        detector = Detector(vit_bundle)
        result = read(infer_response(request, list(detector.stream(iter(request.images)))))
        expected = detector.detect(files[:3])
        assert result.as_numpy("SCORE")[:3].tolist() == pytest.approx(
            [verdict.score for verdict in expected], abs=0, rel=1e-7
        )
        *verdicts, failure = result.as_numpy("RECORD")
        assert [msgspec.json.decode(each, type=Verdict) for each in verdicts] == expected
        error = msgspec.json.decode(failure, type=Failure).error
        assert error.message.startswith("the file is not an image")


class TestMetadata:
    def test_of_the_model_names_its_tensors(self):
        described = model_metadata()
        assert (described["name"], described["versions"]) == ("glass", ["1"])
        tensors = described["inputs"] + described["outputs"]
        assert [(each["name"], each["datatype"], each["shape"]) for each in tensors] == [
            ("IMAGE", "BYTES", [-1]), ("SCORE", "FP32", [-1]), ("RECORD", "BYTES", [-1]),
        ]  # fmt: skip

    def test_of_the_server_names_its_extensions(self):
        assert server_metadata("1.2.3") == {
            "name": "glass-edge",
            "version": "1.2.3",
            "extensions": ["binary_tensor_data", "parameters"],
        }


# --- malformed requests ---------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def taken_or_one_sentence(body: bytes, length: str | None) -> None:
    """Parse a request that may be malformed: there is an answer, or one plain line."""
    try:
        request = parsed(body, length)
    except InputError as error:
        text = str(error)
        assert text.isprintable()
        assert len(text) < 500
        assert text.endswith((".", "?"))
        text.encode()
    else:
        assert 1 <= len(request.images) <= MOST
        infer_response(request, [VERDICT] * len(request.images))


class TestMalformed:
    @given(st.binary(), st.none() | st.text(max_size=9) | st.integers(-1, 99).map(str))
    def test_junk(self, body, length):
        taken_or_one_sentence(body, length)

    @given(st.data())
    def test_valid_requests_with_changed_bytes(self, data):
        body, length = written()
        changed = bytearray(body)
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(body) - 1))
            changed[at] = data.draw(st.integers(0, 255))
        end = data.draw(st.integers(0, len(body)) | st.just(len(body)))
        taken_or_one_sentence(bytes(changed[:end]), length)

    @given(st.data(), JSON)
    def test_valid_requests_with_any_value_in_any_place(self, data, value):
        def change(header):
            header["outputs"] = [{"name": "SCORE", "parameters": {"binary_data": True}}]
            header |= {"id": "1"}
            header["parameters"] |= {"crops": 4, "threshold": 0.5, "sequence_id": 0}
            place = header
            while True:
                keys = range(len(place)) if isinstance(place, list) else sorted(place)
                key = data.draw(st.sampled_from(keys))
                deeper = isinstance(place[key], (list, dict)) and place[key]
                if not deeper or data.draw(st.booleans()):
                    place[key] = value
                    return
                place = place[key]

        taken_or_one_sentence(*edited(change))

    @pytest.mark.parametrize(
        "text",
        [
            b"[" * 500_000, b'{"a":' * 100_000, b'{"inputs": [' + b"9" * 5000 + b"]}",
            b'{"inputs": [], "id": "\xff"}', b'{"inputs": [], "id": "\\ud800"}',
            b'{"inputs": [], "parameters": {"crops": 1e999}}',
            b'{"inputs": [], "parameters": {"seed": ' + b"9" * 5000 + b"}}", b"null", b"",
        ],
    )  # fmt: skip
    def test_hostile_json(self, text):
        with pytest.raises(InputError):
            parsed(text, None)
        taken_or_one_sentence(text, str(len(text)))

    def test_a_name_that_is_no_text_is_refused_or_comes_back(self):
        body, length = edited(lambda header: header.update(id="\ud800"))
        taken_or_one_sentence(body, length)

    def test_a_large_request_takes_no_more_memory_than_its_images(self):
        """Elements are counted before any is copied, and JSON is measured before it is read."""
        empty = 16 << 20
        many, length = edited(lambda header: header["inputs"][0].update(shape=[empty // 4]))
        parameters = json.dumps({"inputs": [], "parameters": dict.fromkeys(range(200_000), 0)})
        for body, header_length in ((many + bytes(empty), length), (parameters.encode(), None)):
            tracemalloc.start()
            with pytest.raises(InputError):
                parsed(body, header_length)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 1 << 20
