"""The Open Inference Protocol as NVIDIA's own client speaks it with the real server."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from serving import Server, serving
from waiting import until

from glass_edge import Bundle, Detector, DetectorOptions, Failure, Verdict

triton = pytest.importorskip("tritonclient.http")
from tritonclient.utils import InferenceServerException  # noqa: E402

INFER = "/v2/models/glass/infer"


@pytest.fixture(scope="module")
def server(vit_bundle: Bundle) -> Iterator[Server]:
    with serving(vit_bundle, "--max-bytes", 1, "--max-queue", 8) as started:
        yield started


def client_of(server: Server) -> Any:
    return triton.InferenceServerClient(server.url.removeprefix("http://"))


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    opened = client_of(server)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def contents(photographs: list[Path]) -> list[bytes]:
    return [path.read_bytes() for path in photographs[1:4]]


def images(contents: Sequence[bytes]) -> Any:
    tensor = triton.InferInput("IMAGE", [len(contents)], "BYTES")
    values = np.empty(len(contents), np.object_)
    values[:] = contents
    return tensor.set_data_from_numpy(values)


def records_of(result: Any) -> list[Verdict | Failure]:
    found: list[Verdict | Failure] = []
    for text in result.as_numpy("RECORD"):
        kind = Verdict if json.loads(text)["status"] == "ok" else Failure
        found.append(msgspec.json.decode(text, type=kind))
    return found


def check_alike(result: Any, expected: Sequence[Verdict]) -> None:
    records, scores = records_of(result), result.as_numpy("SCORE")
    assert scores.dtype == np.float32
    assert scores == pytest.approx([each.score for each in expected], abs=1e-5)
    for score, record, verdict in zip(scores, records, expected, strict=True):
        assert score == pytest.approx(record.score, rel=1e-6)
        assert [(c.top, c.left) for c in record.crops] == [(c.top, c.left) for c in verdict.crops]
        assert (record.bundle, record.engine) == (verdict.bundle, verdict.engine)
        assert (record.path, record.file) == (None, None)


def test_it_lives_and_is_ready(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("glass")
    assert client.is_model_ready("glass", "1")
    assert not client.is_model_ready("glass", "2")
    assert not client.is_model_ready("another")


def test_metadata_are_what_is_served(client):
    assert client.get_server_metadata()["name"] == "glass-edge"
    described = client.get_model_metadata("glass")
    assert described == client.get_model_metadata("glass", "1")
    assert [each["name"] for each in described["inputs"]] == ["IMAGE"]
    assert [each["name"] for each in described["outputs"]] == ["SCORE", "RECORD"]


@pytest.mark.parametrize("version", ["", "1"])
@pytest.mark.parametrize("count", [1, 3])
def test_photographs_get_the_detectors_verdicts(version, count, client, vit_bundle, contents):
    result = client.infer("glass", [images(contents[:count])], version, request_id="one")
    check_alike(result, Detector(vit_bundle).detect(contents[:count]))
    described = result.get_response()
    assert (described["id"], described["model_version"]) == ("one", "1")


@pytest.mark.parametrize("binary", [True, False])
def test_outputs_come_as_bytes_or_as_json(binary, client, vit_bundle, contents):
    outputs = [triton.InferRequestedOutput(n, binary_data=binary) for n in ("RECORD", "SCORE")]
    result = client.infer("glass", [images(contents)], outputs=outputs)
    check_alike(result, Detector(vit_bundle).detect(contents))


@pytest.mark.parametrize("asked", [{"crops": 3}, {"seed": 7, "crops": 2}, {"influence": True}])
def test_parameters_are_the_detectors_options(asked, client, vit_bundle, contents):
    result = client.infer("glass", [images(contents)], parameters=asked)
    expected = Detector(vit_bundle, DetectorOptions(**asked)).detect(contents)
    check_alike(result, expected)
    for record, verdict in zip(records_of(result), expected, strict=True):
        influence = [crop.influence for crop in verdict.crops]
        assert [crop.influence for crop in record.crops] == pytest.approx(influence, abs=1e-5)


def test_an_image_that_cannot_be_judged_spoils_no_other(client, contents):
    result = client.infer("glass", [images([contents[0], b"words"])])
    scores = result.as_numpy("SCORE")
    assert np.isfinite(scores[0])
    assert np.isnan(scores[1])
    assert records_of(result)[1].error.message.startswith("the file is not an image")


def test_a_raw_request_is_one_image(server, vit_bundle, contents):
    headers = {"Inference-Header-Content-Length": "0"}
    with server.client() as client:
        answer = client.post(INFER, content=contents[0], headers=headers)
    assert answer.status_code == 200
    length = int(answer.headers["Inference-Header-Content-Length"])
    result = triton.InferenceServerClient.parse_response_body(answer.content, header_length=length)
    check_alike(result, Detector(vit_bundle).detect(contents[:1]))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"parameters": {"crop": 4}}, "there is no parameter 'crop': did you mean crops?"),
        ({"parameters": {"crops": 65}}, "65 crops are more than the 64 that this server allows."),
        ({"parameters": {"crops": "auto"}}, "crops"),
        ({"parameters": {"threshold": 2}}, "threshold must lie between 0 and 1, not 2.0."),
        ({"priority": 3}, "the parameter priority is not supported here: leave it out."),
        (
            {"outputs": [triton.InferRequestedOutput("SCORES")]},
            "there is no output 'SCORES': did you mean SCORE?",
        ),
    ],
)
def test_what_makes_no_sense_is_said_in_a_sentence(options, sentence, client, contents):
    with pytest.raises(InferenceServerException, match="400") as refused:
        client.infer("glass", [images(contents)], **options)
    assert sentence in refused.value.message()


def test_compressed_requests_are_refused(client, contents):
    with pytest.raises(InferenceServerException, match="'gzip', which is not decoded here"):
        client.infer("glass", [images(contents)], request_compression_algorithm="gzip")


def test_compressed_answers_are_not_owed(client, vit_bundle, contents):
    result = client.infer("glass", [images(contents)], response_compression_algorithm="gzip")
    check_alike(result, Detector(vit_bundle).detect(contents))


def test_other_models_and_versions_are_not_there(client, contents):
    for model, version in (("glass", "2"), ("another", "")):
        with pytest.raises(InferenceServerException, match="there is nothing here"):
            client.infer(model, [images(contents)], version)


def test_what_is_too_large_is_said(client, contents):
    with pytest.raises(InferenceServerException, match="has more than 1048576 bytes"):
        client.infer("glass", [images([bytes(1 << 20)])])
    with pytest.raises(InferenceServerException, match="from 1 to 8 images"):
        client.infer("glass", [images([b"x"] * 9)])


def test_it_is_not_ready_while_it_drains_and_still_answers(vit_bundle, contents):
    with serving(vit_bundle, "--drain-delay", 600) as server:
        client = client_of(server)
        assert client.is_server_ready()
        server.signal(signal.SIGTERM)
        until(lambda: not client.is_server_ready())
        assert client.is_server_live()
        assert not client.is_model_ready("glass")
        check_alike(
            client.infer("glass", [images(contents)]), Detector(vit_bundle).detect(contents)
        )
        client.close()
        server.signal(signal.SIGTERM)  # ends the delay
        assert server.wait() == 0
