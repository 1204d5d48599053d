"""Reading what a file says of itself. Claims: no verdict depends on them."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from ..machine.errors import InputError
from .claims import ClaimOptions, Claims, Declared, Provenance
from .credentials import read_credentials
from .declared import statements_of
from .metadata import Metadata, read_metadata
from .orientation import AS_STORED, orientation_of

MOST_TRUST_BYTES = 4 << 20
_CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----[\w\s+/=]+-----END CERTIFICATE-----", re.ASCII
)
_ADVICE = "give a PEM file, in which each certificate begins with -----BEGIN CERTIFICATE-----."


def read_claims(content: bytes, options: ClaimOptions) -> Claims:
    """Return what is asked for of what a file says of itself; never raises.

    Nothing is decoded, and nothing leaves this machine.
    """
    orientation, declared = AS_STORED, tuple[Declared, ...]()
    with suppress(Exception):  # metadata never cost an image its verdict
        metadata = read_metadata(content) if options.any else Metadata()
        orientation = orientation_of(metadata) if options.orientation else AS_STORED
        declared = statements_of(metadata) if options.provenance else ()
    if not options.provenance:
        return Claims(orientation)
    credentials = read_credentials(content, options.trust_list)
    return Claims(orientation, Provenance(declared, credentials, options.trust_digest))


def read_trust_list(path: Path) -> str:
    """Return the text of a file of certificates (PEM) that are to be trusted.

    Raises:
        InputError: it is missing, cannot be read, is too large, or holds no certificate.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_TRUST_BYTES + 1)
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        raise InputError(f"the trust list {path} {reason}; {_ADVICE}") from None
    if len(content) > MOST_TRUST_BYTES:
        size = f"{MOST_TRUST_BYTES >> 20} MiB"
        raise InputError(f"the trust list {path} is larger than {size}; {_ADVICE}")
    text = content.decode("latin-1")  # each byte stays one: the digest is the file's
    certificates = _CERTIFICATE.findall(text)
    if not certificates:
        raise InputError(f"the trust list {path} holds no certificate; {_ADVICE}")
    import ssl  # which takes longer than all of this room

    try:
        ssl.create_default_context(cadata="\n".join(certificates))
    except ssl.SSLError:
        raise InputError(f"the trust list {path} holds a damaged certificate; {_ADVICE}") from None
    return text
