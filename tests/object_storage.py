"""An S3 of this machine's own, moto's, and a proxy in front of it that misbehaves on order."""

from __future__ import annotations

import http.client
import itertools
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

import boto3
import pytest
from glass_edge.runtime.storage import store
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

SETTINGS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",  # which would be asked for credentials
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
_NAMES = itertools.count(1)
_NO_BODY = ("HEAD",)


@dataclass
class ObjectStorage:
    """A server that speaks S3.

    Attributes:
        endpoint: where it is found.
    """

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs in its environment to find it."""
        return SETTINGS | {"AWS_ENDPOINT_URL": self.endpoint}

    @cached_property
    def client(self) -> Any:
        """boto3's client, which shares nothing with ours but botocore."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        )

    def bucket(self, objects: dict[str, bytes] | None = None) -> str:
        """Make a bucket that holds these objects; return its name."""
        name = f"bucket-{next(_NAMES)}"
        self.client.create_bucket(Bucket=name)
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        for key, content in (objects or {}).items():  # a tenth of the time that requests take
            backend.put_object(name, key, content)
        return name

    def content(self, bucket: str, key: str) -> bytes:
        return self.client.get_object(Bucket=bucket, Key=key)["Body"].read()

    def keys(self, bucket: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [found["Key"] for page in pages for found in page.get("Contents", ())]

    def unfinished(self, bucket: str) -> list[Any]:
        """Return the uploads of which parts are left."""
        return self.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])


@cache
def started() -> ObjectStorage:
    """Start a server once; it ends with this process."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else it tells of every request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return ObjectStorage(f"http://{host}:{port}")


@contextmanager
def in_environment(**settings: str | None) -> Iterator[None]:
    """Let the block's stores be opened anew, with these variables set; those of None are unset."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [each for each in os.environ if each.startswith(("AWS_", "FSSPEC_"))]:
            patch.delenv(name)
        for name, value in settings.items():
            if value is not None:
                patch.setenv(name, value)
        store._opened.cache_clear()
        yield
    store._opened.cache_clear()


@pytest.fixture(scope="module")
def object_storage() -> Iterator[ObjectStorage]:
    """A server that ``s3://`` leads to, in this process and in those that it starts."""
    storage = started()
    with in_environment(**storage.environment):
        yield storage


# --- a proxy --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Any = field(repr=False)


Answer: TypeAlias = tuple[int, dict[str, str], bytes]
Behaviour: TypeAlias = Callable[[Request, Callable[[], Answer]], "Answer | None"]
"""Makes an answer, from the server's or not; ``None`` breaks the connection off."""


def honest(request: Request, forward: Callable[[], Answer]) -> Answer:
    return forward()


def refusing(status: int, code: str) -> Behaviour:
    """Answer as S3 does when it refuses: with XML, but for HEAD."""

    def refuse(request: Request, forward: Callable[[], Answer]) -> Answer:
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"
        return status, {"Content-Type": "application/xml"}, body.encode()

    return refuse


def cut(request: Request, forward: Callable[[], Answer]) -> Answer:
    """Promise a whole body, and break off in its middle."""
    status, headers, body = forward()
    return status, headers | {"Content-Length": str(len(body))}, body[: len(body) // 2]


def at_first(times: int, behaviour: Behaviour) -> Behaviour:
    """Behave so with the first requests, and be honest then."""
    left = iter(range(times))

    def behave(request: Request, forward: Callable[[], Answer]) -> Answer | None:
        return (honest if next(left, None) is None else behaviour)(request, forward)

    return behave


class Proxy:
    """Forwards to a server, notes the requests, and misbehaves as it is told.

    Attributes:
        storage: the server as it is found through the proxy.
        requests: so far.
    """

    def __init__(self, server: ObjectStorage) -> None:
        self.requests: list[Request] = []
        self._behaviour: Behaviour = honest
        self._target = server.endpoint.removeprefix("http://")
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                proxy._handle(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.storage = ObjectStorage(f"http://127.0.0.1:{self._server.server_port}")
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.requests]

    @contextmanager
    def behaving(self, behaviour: Behaviour) -> Iterator[None]:
        self._behaviour = behaviour
        yield
        self._behaviour = honest

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        request = Request(handler.command, handler.path, handler.headers)
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        self.requests.append(request)
        answer = self._behaviour(request, lambda: self._forward(request, body))
        if answer is None:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        self._reply(handler, *answer)

    def _forward(self, request: Request, body: bytes) -> Answer:
        connection = http.client.HTTPConnection(self._target, timeout=30)
        connection.request(request.method, request.path, body, dict(request.headers))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        unwanted = ("connection", "transfer-encoding", "server", "date")
        return (
            answer.status,
            {k: v for k, v in answer.getheaders() if k.lower() not in unwanted},
            content,
        )

    def _reply(
        self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes
    ) -> None:
        lengths = [int(v) for k, v in headers.items() if k.lower() == "content-length"]
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if not lengths:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command not in _NO_BODY:
            handler.wfile.write(body)
            if lengths and len(body) < lengths[0]:
                handler.close_connection = True


@pytest.fixture(scope="module")
def proxy(object_storage: ObjectStorage) -> Iterator[Proxy]:
    """A proxy that ``s3://`` leads through, in the tests that enter :func:`through`."""
    proxy = Proxy(object_storage)
    yield proxy
    proxy.close()


@contextmanager
def through(proxy: Proxy, behaviour: Behaviour = honest, **settings: str | None) -> Iterator[Proxy]:
    """Let ``s3://`` lead through a proxy that behaves so, and note requests anew."""
    with in_environment(**(proxy.storage.environment | settings)), proxy.behaving(behaviour):
        proxy.requests.clear()
        yield proxy
