"""The real server keeps to its own description, whatever the description allows and forbids."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import with_rule
from hypothesis import HealthCheck, Phase, given, settings
from serving import Server, serving
from waiting import until

from glass_edge import Bundle

openapi = pytest.importorskip("schemathesis.openapi")
from schemathesis import Case, GenerationMode  # noqa: E402
from schemathesis.checks import load_all_checks  # noqa: E402
from schemathesis.schemas import BaseSchema  # noqa: E402
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

load_all_checks()
EXAMPLES = 30  # of each operation and kind
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


@pytest.fixture(scope="module")
def server(vit_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Of a bundle by which everything that is described can be asked."""
    bundle = with_rule(vit_bundle, tmp_path_factory.mktemp("rule") / "vit.glass", (0.0,) * 4)
    with serving(bundle, "--max-crops", 4, "--max-queue", 4) as started:
        yield started


@pytest.fixture(scope="module")
def described(server: Server) -> BaseSchema:
    return openapi.from_url(f"{server.url}/openapi.json")


@pytest.mark.parametrize("mode", MODES, ids=["what it allows", "what it forbids"])
def test_answers_are_as_described(mode: GenerationMode, described: BaseSchema, server: Server):
    asked = set()
    for found in described.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and operation.method != "post":
            continue  # there is nothing that it forbids

        @given(operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=EXAMPLES,
            phases=[Phase.generate],
            suppress_health_check=[*HealthCheck],
            derandomize=True,
        )
        def ask(case: Case) -> None:
            # Random bytes are no images, and nobody's form.
            case.call_and_validate(excluded_checks=[positive_data_acceptance])
            asked.add(case.operation.label)

        ask()
    assert "POST /v1/judge" in asked
    assert "POST /v2/models/glass/infer" in asked
    assert server.errors[1:] == []
    with server.client() as client:
        assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("path", ["/readyz", "/v2/health/ready", "/v2/models/glass/ready"])
def test_not_ready_is_as_described(path: str, described: BaseSchema, vit_bundle: Bundle):
    with serving(vit_bundle, "--drain-delay", 60) as server:
        server.signal(signal.SIGTERM)
        case = described[path]["GET"].Case()
        until(lambda: case.call(base_url=server.url).status_code != 200)
        answer = case.call(base_url=server.url)
        assert answer.status_code == 503
        described[path]["GET"].validate_response(answer)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


@pytest.mark.parametrize("path", ["/v1/judge", "/v2/models/glass/infer"])
def test_verdicts_are_as_described(
    path: str, described: BaseSchema, server: Server, photographs: list[Path]
):
    """Which random bytes never get."""
    raw = {"Inference-Header-Content-Length": "0"}
    first, second = (path.read_bytes() for path in photographs[1:3])
    with server.client() as client:
        answers = [client.post(path, content=first, headers=raw)]
        if path == "/v1/judge":
            query = {"crops": "auto", "influence": "true", "provenance": "true"}
            files = [("file", ("a.png", first)), ("file", ("b.jpg", second)), ("file", ("c", b""))]
            answers += [client.post(path, files=some, params=query) for some in (files, files[:1])]
    for answer in answers:
        assert answer.status_code == 200
        answer.request.read()  # which a form is not yet
        described[path]["POST"].validate_response(answer)
