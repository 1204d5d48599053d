"""The application: which requests there are, and what answers them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.metadata import version

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from .answers import error_handlers, json_answer, records_answer
from .bodies import FinishReading, pictures_in
from .journal import Journal, entry_in
from .open_inference.endpoints import OpenInference
from .openapi.document import Bounds, openapi_document
from .options import asked_of
from .page import facts_of, render_page
from .service import Service

_Endpoint = Callable[[Request], Awaitable[Response]]


class _Named(Route):
    """Tells the journal which route a request takes."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        entry_in(scope).route = self.path
        await super().handle(scope, receive, send)


def application(service: Service, write: Callable[[bytes], None]) -> ASGIApp:
    """Return what answers requests to a service; ``write`` takes a line for each of them.

    Raises:
        InputError: there shall be a page, and Jinja2 is not installed.
    """
    options = service.options
    app = Starlette(
        routes=[
            _Named(path, answer, methods=[method]) for path, method, answer in _routes(service)
        ],
        exception_handlers=dict(error_handlers(options.max_bytes)),
    )
    return FinishReading(Journal(app, service.metrics, write, closing=lambda: service.draining))


def _routes(service: Service) -> list[tuple[str, str, _Endpoint]]:
    inference = OpenInference(service)
    document = openapi_document(
        version("glass-edge"),
        Bounds(service.options.max_bytes, service.options.max_queue, service.options.max_crops),
    )
    routes: list[tuple[str, str, _Endpoint]] = [
        ("/v1/judge", "POST", _judge(service)),
        *inference.routes(),
        ("/healthz", "GET", inference.live),
        ("/readyz", "GET", inference.ready),
        ("/metrics", "GET", _metrics(service)),
        ("/openapi.json", "GET", _always(json_answer(document))),
    ]
    if service.options.page:
        page = render_page(facts_of(service.detector, service.options.max_bytes))
        headers = {"Content-Security-Policy": page.policy, "X-Content-Type-Options": "nosniff"}
        answer = Response(page.html, headers=headers, media_type="text/html")
        routes.append(("/", "GET", _always(answer)))
    return routes


def _judge(service: Service) -> _Endpoint:
    async def judge(request: Request) -> Response:
        options = service.options
        query = request.query_params.multi_items()
        asked = asked_of(service.detector.options, query, options.max_crops)
        service.check(request)
        with service.admission.hold() as held:
            pictures = await pictures_in(request, held, options)
            answers = await service.judge(request, held, pictures, asked)
        return records_answer([answer.record for answer in answers])

    return judge


def _metrics(service: Service) -> _Endpoint:
    async def metrics(_: Request) -> Response:
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return metrics


def _always(answer: Response) -> _Endpoint:
    async def endpoint(_: Request) -> Response:
        return answer

    return endpoint
