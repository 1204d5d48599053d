"""Certificates and signed images, made by the library that reads them. No key is ever stored."""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "GIF": "image/gif",
    "AVIF": "image/avif",
    "HEIF": "image/heic",
}
"""Of the formats that the library signs, by Pillow's names."""
_OFFLINE = {
    "version": 1,
    "verify": {"remote_manifest_fetch": False, "verify_after_sign": False},
    "builder": {"thumbnail": {"enabled": False}},
}


class Signer(NamedTuple):
    """A root certificate (PEM), the chain that leads to it, and the key of the chain's first."""

    root: str
    chain: bytes
    key: bytes


def new_signer(organisation: str = "Example Cameras", seconds: float = 9e6) -> Signer:
    """Return an authority's root, and a certificate that it gives to this organisation.

    It expires after so many ``seconds``.
    """
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root_name, name = _name("Example Authority"), _name(organisation)
    root = _certificate(root_name, root_name, root_key, 9e6, authority=True).sign(
        root_key, hashes.SHA256()
    )
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
    issued_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    own = _certificate(name, root_name, key, seconds, authority=False)
    own = own.add_extension(purpose, critical=False).add_extension(issued_by, critical=False)
    root_text, own_text = (
        each.public_bytes(serialization.Encoding.PEM)
        for each in (root, own.sign(root_key, hashes.SHA256()))
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Signer(root_text.decode(), own_text + root_text, secret)


def signed(
    content: bytes,
    kind: str,
    signer: Signer,
    *,
    remote: str | None = None,
    embedded: bool = True,
    **claim: Any,
) -> bytes:
    """Return an image with a manifest in it, or with the address ``remote`` of one, or both."""
    context = c2pa.Context.from_dict(_OFFLINE)
    builder = c2pa.Builder.from_json(json.dumps(_definition(claim)), context)
    if remote:
        builder.set_remote_url(remote)
    if not embedded:
        builder.set_no_embed()
    info = c2pa.C2paSignerInfo(b"es256", signer.chain, signer.key, None)
    made = io.BytesIO()
    builder.sign(c2pa.Signer.from_info(info), MEDIA_TYPES[kind], io.BytesIO(content), made)
    return made.getvalue()


def created(source_type: str = f"{SOURCE_TYPES}trainedAlgorithmicMedia") -> dict[str, str]:
    """The action that says how a picture came about."""
    return {"action": "c2pa.created", "digitalSourceType": source_type}


def _definition(claim: Mapping[str, Any]) -> dict[str, Any]:
    claim = {
        "program": {"name": "Example Painter", "version": "1.2"},
        "actions": [created(), {"action": "c2pa.edited"}],
        **claim,
    }
    actions = {"label": "c2pa.actions.v2", "data": {"actions": claim["actions"]}}
    return {"claim_generator_info": [claim["program"]], "assertions": [actions]}


def _name(organisation: str) -> x509.Name:
    parts = {
        NameOID.COUNTRY_NAME: "DE",
        NameOID.ORGANIZATION_NAME: organisation,
        NameOID.COMMON_NAME: "glass-edge tests",
    }
    return x509.Name([x509.NameAttribute(key, value) for key, value in parts.items()])


def _certificate(
    name: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    seconds: float,
    *,
    authority: bool,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    usage = x509.KeyUsage(
        digital_signature=not authority, key_cert_sign=authority, crl_sign=authority,
        content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(seconds=seconds))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
