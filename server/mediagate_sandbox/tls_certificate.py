"""TLS certificate of the sandbox: a certificate authority of its own, made at every start.

Nothing trusts it but who is given its file. Its key is nowhere once the certificate is signed.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
_LIFETIME = timedelta(days=90)
"""How long a sandbox may run; clients refuse certificates of more than 398 days."""
_CLOCK_SKEW = timedelta(days=1)
_ALL_ADDRESSES = ("0.0.0.0", "::", "")  # noqa: S104 - what a certificate cannot be issued for


@dataclass(frozen=True, slots=True)
class ServerTls:
    """TLS of a server: its context, and the file that its clients must trust."""

    context: ssl.SSLContext
    ca_file: Path


@contextmanager
def issued_certificate(hosts: Iterable[str], ca_file: Path | None) -> Iterator[ServerTls]:
    """Issue a certificate for `hosts` and the names of this machine.

    The authority's certificate is written to `ca_file`, or to a temporary file that is deleted at
    the end. Raises OSError if it cannot be written.
    """
    with TemporaryDirectory(prefix="mediagate-sandbox-tls-") as folder:
        authority_key = ec.generate_private_key(ec.SECP256R1())
        authority = _authority(authority_key)
        key = ec.generate_private_key(ec.SECP256R1())
        names = [each for each in dict.fromkeys([*_LOCAL_HOSTS, *hosts]) if _is_one_host(each)]
        certificate = _certificate(key, names, authority, authority_key)
        ca_path = ca_file or Path(folder) / "ca.pem"
        ca_path.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
        # The standard library reads key and certificate from a file only.
        chain = Path(folder) / "server.pem"
        chain.touch(mode=0o600)
        chain.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(chain)
        chain.unlink()
        yield ServerTls(context, ca_path)


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _name("Mediagate sandbox CA")
    builder = _builder(name, name, key.public_key())
    usage = _key_usage(key_cert_sign=True, crl_sign=True)
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )


def _certificate(
    key: ec.EllipticCurvePrivateKey,
    hosts: list[str],
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    builder = _builder(_name("Mediagate sandbox"), authority.subject, key.public_key())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    names = x509.SubjectAlternativeName([_alternative_name(each) for each in hosts])
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(server, critical=False)
        .add_extension(issuer, critical=False)
        .add_extension(names, critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _is_one_host(host: str) -> bool:
    return host not in _ALL_ADDRESSES


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
