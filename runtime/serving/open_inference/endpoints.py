"""The endpoints of the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import TypeAlias

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..answers import json_answer
from ..bodies import Picture, joined, read_body
from ..options import asked_of
from ..service import Service
from .request import HEADER_LENGTH, EncodingError, check_encoding, parse_infer
from .response import MODEL, VERSION, infer_response, model_metadata, server_metadata

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


class OpenInference:
    """Answers the protocol's requests by a service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[tuple[str, str, Endpoint]]:
        """Return each path with its method and what answers it."""
        of_model = [
            ("", "GET", self._model),
            ("/ready", "GET", self.ready),
            ("/infer", "POST", self._infer),
        ]
        model = f"/v2/models/{MODEL}"
        return [
            ("/v2", "GET", self._server),
            ("/v2/health/live", "GET", self.live),
            ("/v2/health/ready", "GET", self.ready),
            *((f"{model}{path}", method, answer) for path, method, answer in of_model),
            *(
                (f"{model}/versions/{VERSION}{path}", method, answer)
                for path, method, answer in of_model
            ),
        ]

    async def live(self, _: Request) -> Response:
        """Whether this process can still judge, or should be started anew."""
        live = self._service.failure is None
        return json_answer({"live": live}, 200 if live else 503)

    async def ready(self, _: Request) -> Response:
        """Whether requests should be sent here."""
        ready = self._service.ready
        return json_answer({"name": MODEL, "ready": ready}, 200 if ready else 503)

    async def _server(self, _: Request) -> Response:
        return json_answer(server_metadata(version("glass-edge")))

    async def _model(self, _: Request) -> Response:
        return json_answer(model_metadata())

    async def _infer(self, request: Request) -> Response:
        service, options = self._service, self._service.options
        try:
            check_encoding(request.headers.get("content-encoding"))
        except EncodingError as error:
            raise HTTPException(415, str(error)) from None
        service.check(request)
        with service.admission.hold() as held:
            body = await read_body(request, held, options.max_bytes, joined)
            length = request.headers.get(HEADER_LENGTH)
            wanted = parse_infer(body, length, most_images=options.max_queue)
            del body
            given = [(name, _in_words(value)) for name, value in wanted.options.items()]
            asked = asked_of(service.detector.options, given, options.max_crops)
            pictures = [Picture(image) for image in wanted.images]
            answers = await service.judge(request, held, pictures, asked)
        content, headers = infer_response(wanted, [answer.record for answer in answers])
        return Response(content, headers=headers)


def _in_words(value: bool | float | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
