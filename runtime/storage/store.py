"""One kind of object storage through fsspec, whose errors become sentences.

How to reach it (credentials, region, endpoint) comes from where its library looks for it: the
environment and its configuration files.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, BinaryIO, TypeVar

from ..finding.files import ImageFile
from ..machine.errors import GlassError, InputError, OutputError, UnreadableError
from .urls import SCHEMES, checked, checked_object, scheme_of

RETRY_SECONDS = 30.0
"""Seconds for which a request is repeated while the reason why it fails may pass.

The last attempt may begin just before. botocore repeats each five times (``AWS_MAX_ATTEMPTS``):
at most 15 s more where a store throttles, and 90 s where it is connected and never answers."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds
_CONNECTIONS = 64  # at once; botocore's default is 10
_BLOCK_BYTES = 16 << 20  # that a request for a part of an open object reads ahead
_BUFFER_BYTES = 64 << 10  # of small reads, such as lines

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Object:
    """Something that lies in a bucket.

    Attributes:
        url: its address.
        file: its size, and when it was last changed.
    """

    url: str
    file: ImageFile


@dataclass(frozen=True)
class Store:
    """What answers for all addresses of one scheme.

    Attributes:
        scheme: such as ``s3``.
        files: fsspec's filesystem. It keeps no listings, and any thread may call it; its calls
            belong inside :func:`asking`.
    """

    scheme: str
    files: Any


def store_of(url: str) -> Store:
    """Return what answers for an address; nothing is asked of it yet.

    Raises:
        InputError: the address is none that is read, a library is missing, or a setting is wrong.
    """
    return _opened(scheme_of(checked(url)), os.getpid())


def asking(
    url: str, call: Callable[[], _Result], failing: type[GlassError] = InputError
) -> _Result:
    """Return what a call of a store returns, and repeat it for a while if that may help.

    Args:
        url: what the call is about.
        call: may be called several times.
        failing: the error to raise: InputError where a run makes no sense without the answer,
            UnreadableError for one image, OutputError when writing.

    Raises:
        GlassError: of the kind ``failing``, caused by the store's error.
    """
    deadline, pause = time.monotonic() + RETRY_SECONDS, _FIRST_PAUSE
    while True:
        try:
            return call()
        except Exception as error:
            if not _is_foreign(error):
                raise
            names = frozenset(_names(error))
            if names.isdisjoint(_PASSING) or time.monotonic() + pause > deadline:
                raise failing(_sentence(url, error, names, failing)) from error
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def open_object(url: str, failing: type[GlassError] = UnreadableError) -> BinaryIO:
    """Open an object for reading; seeking works, and reading in order reads ahead.

    Args:
        url: its address.
        failing: as in :func:`asking`, for what reading raises, too.

    Raises:
        GlassError: it is not there, or cannot be read.
        InputError: the address is none of an object, or a library is missing.
    """
    url, files = checked_object(url), store_of(url).files
    file = asking(url, lambda: files.open(url, "rb", block_size=_BLOCK_BYTES), failing)
    if isinstance(file, io.BytesIO):  # of memory://: all who open it share one position
        file = io.BytesIO(file.getvalue())
    return io.BufferedReader(_RemoteFile(url, file, failing), _BUFFER_BYTES)


class _RemoteFile(io.RawIOBase):
    """fsspec's file, with our errors."""

    def __init__(self, url: str, file: Any, failing: type[GlassError]) -> None:
        self._url, self._file, self._failing = url, file, failing

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:
        return asking(self._url, lambda: int(self._file.readinto(buffer)), self._failing)

    def readall(self) -> bytes:
        return asking(self._url, lambda: bytes(self._file.read()), self._failing)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


@cache
def _opened(scheme: str, process: int) -> Store:
    """Return a process's store; one that is forked needs connections of its own."""
    try:
        import fsspec
    except ModuleNotFoundError:
        raise InputError(
            f"{scheme}:// needs the library fsspec: pip install 'glass-edge[cloud]'."
        ) from None
    try:
        files = fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        library = SCHEMES[scheme]
        raise InputError(
            f"{scheme}:// needs the library {library}: pip install {library}."
        ) from error
    if scheme == "s3":
        files.retries = 1  # botocore repeats requests, and asking() what else may pass
        files.config_kwargs = {"max_pool_connections": _CONNECTIONS} | files.config_kwargs
    return Store(scheme, files)


_LIBRARIES = (
    "aiobotocore", "aiohttp", "asyncio", "botocore", "fsspec", "gcsfs", "google", "requests",
    "s3fs", "urllib3",
)  # fmt: skip
_THROTTLED = "SlowDown ServiceUnavailable TooManyRequests 429 503"
_BROKEN_OFF = """
    HTTPClientError ClientPayloadError ServerDisconnectedError IncompleteRead ConnectionResetError
    FSTimeoutError TimeoutError RequestTimeout
"""
_FAILED = "InternalError 500 502 504"
_CONFLICTS = "OperationAborted ConditionalRequestConflict"
_PASSING = frozenset(f"{_THROTTLED} {_BROKEN_OFF} {_FAILED} {_CONFLICTS}".split())
"""What names a reason that may pass: classes of exceptions, and the stores' own codes."""

_NAMES_BY_REASON = {
    "no credentials were found: {credentials}": """
        NoCredentialsError PartialCredentialsError CredentialRetrievalError
        DefaultCredentialsError MissingSecurityHeader
    """,
    "the profile that AWS_PROFILE names is not in ~/.aws: correct either": """
        ProfileNotFound ConfigNotFound ConfigParseError
    """,
    "the credentials are not accepted: renew or correct them, and check this machine's clock": """
        InvalidAccessKeyId SignatureDoesNotMatch ExpiredToken InvalidToken RequestTimeTooSkewed
        TokenRetrievalError SSOTokenLoadError UnauthorizedSSOTokenError RefreshError 401
    """,
    "there is no such bucket: check its name, and {endpoint} if it is set": """
        NoSuchBucket InvalidBucketName ParamValidationError
    """,
    "it is in an archive tier, and must be restored first": "InvalidObjectState",
    "access is denied: ask the bucket's owner for the right, or use other credentials": """
        PermissionError Forbidden 403
    """,
    "it was changed in the meantime: run again": "FileExpired PreconditionFailed 412",
    "it is not there": "FileNotFoundError",
    "the store still throttles after many attempts: run again later, or with fewer processes": (
        _THROTTLED
    ),
    "the store failed in every attempt, for reasons of its own: run again later": _FAILED,
    "the bucket is in another region: set AWS_DEFAULT_REGION to it": """
        AuthorizationHeaderMalformed PermanentRedirect IllegalLocationConstraintException
    """,
    "its endpoint cannot be reached: check the network, and {endpoint} if it is set": """
        EndpointConnectionError ConnectTimeoutError ProxyConnectionError SSLError
        ClientConnectorError
    """,
    "{endpoint} is no address: begin it with https:// or http://": "ValueError",
    "the connection broke off or gave no answer in every attempt: run again later": _BROKEN_OFF,
}
_REASONS = [(frozenset(names.split()), reason) for reason, names in _NAMES_BY_REASON.items()]
"""What is wrong by the names that tell it; the first that fits is said."""

_S3 = {
    "credentials": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (for a public "
    "bucket FSSPEC_S3_ANON=true)",
    "endpoint": "AWS_ENDPOINT_URL",
}
_GS = {
    "credentials": "run `gcloud auth application-default login`, or set "
    "GOOGLE_APPLICATION_CREDENTIALS",
    "endpoint": "STORAGE_EMULATOR_HOST",
}


def _names(error: BaseException) -> Iterator[str]:
    """Yield the names that tell what went wrong: of classes, and the store's own codes."""
    seen: BaseException | None = error
    while seen is not None:
        yield from (each.__name__ for each in type(seen).__mro__)
        response = getattr(seen, "response", None)
        if isinstance(response, dict):
            yield str(response.get("Error", {}).get("Code"))
        yield str(getattr(seen, "code", None))
        seen = seen.__cause__ or seen.__context__


def _is_foreign(error: Exception) -> bool:
    """Whether an error is the store's or the network's, and no fault of glass-edge."""
    if isinstance(error, ValueError):  # what botocore says of AWS_ENDPOINT_URL
        return str(error).startswith("Invalid endpoint")
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _LIBRARIES


def _sentence(url: str, error: Exception, names: frozenset[str], failing: type[GlassError]) -> str:
    reason = next((why for known, why in _REASONS if not known.isdisjoint(names)), None)
    if reason is None:
        text = " ".join(str(error).split()).rstrip(".")
        reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
    else:
        reason = reason.format_map(_GS if scheme_of(url) == "gs" else _S3)
    work = "written" if issubclass(failing, OutputError) else "read"
    what = "it" if issubclass(failing, UnreadableError) else url  # whose record has its path
    return f"{what} cannot be {work}: {reason}."
