"""A certificate authority of one's own for development, and what it issues. Pure but for new random keys.

Of hosts with names the authority can only vouch for those that it was made for (name constraints), so that a
copy of its key is of no use for other sites. Everything is short-lived.
"""

import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from servable.errors import InputError

#: Days for which an authority is valid, and for which what it issues is.
AUTHORITY_DAYS, DAYS = 90, 30
#: For clocks that are behind.
_BEFORE = timedelta(minutes=5)
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Issued(NamedTuple):
    """A certificate and its private key, both in PEM; the key without a password."""

    certificate: bytes
    key: bytes


def check_host(host: str) -> str:
    """A host as certificates name it.

    Raises:
        InputError: it is neither a name nor an address.
    """
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        name = host.lower()
    if len(name) > 253 or _HOST.fullmatch(name) is None:
        raise InputError(f"{host[:60]!r} is no host; write a name such as dev.local, or an address.")
    return name


def check_client(name: str) -> str:
    """The name of a client, as its certificate has it.

    Raises:
        InputError: it has other letters than are safe in names of files as well.
    """
    if _CLIENT.fullmatch(name) is None:
        raise InputError(f"{name[:60]!r} is no name for a client; use letters, digits, - and _.")
    return name


def new_authority(hosts: Sequence[str], now: datetime) -> Issued:
    """Make an authority that can vouch for some hosts.

    Args:
        hosts: names and addresses, by ``check_host``.
        now: aware.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named("Servable development authority")
    permitted = _names(hosts)
    builder = (
        _builder(name, name, key.public_key(), now, timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _signed(builder, key, key)


def vouches(authority: bytes, hosts: Sequence[str], now: datetime) -> bool:
    """Whether an authority can still issue certificates for hosts that are valid as long as they should be.

    Args:
        authority: its certificate in PEM.
        hosts: by ``check_host``.
        now: aware.
    """
    try:
        found = x509.load_pem_x509_certificate(authority)
        constraints = found.extensions.get_extension_for_class(x509.NameConstraints).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    permitted = constraints.permitted_subtrees or []
    lasts = found.not_valid_after_utc >= now + timedelta(days=DAYS)
    return lasts and all(name in permitted for name in _names(hosts))


def issue(authority: Issued, now: datetime, *, hosts: Sequence[str] = (), client: str = "") -> Issued:
    """Issue a certificate, for a server or for a client.

    Args:
        authority: signs it.
        now: aware.
        hosts: of a server, by ``check_host``.
        client: the name of a client, by ``check_client``; empty for a server.

    Raises:
        InputError: the authority cannot be read.
    """
    try:
        signer = x509.load_pem_x509_certificate(authority.certificate)
        signing = load_pem_private_key(authority.key, None)
    except (ValueError, TypeError) as error:
        raise InputError("The authority for development is damaged; remove its files.") from error
    if not isinstance(signing, ec.EllipticCurvePrivateKey) or signing.public_key() != signer.public_key():
        raise InputError("The authority for development and its key do not belong together; remove both.")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _named(client or hosts[0])
    role = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
    builder = (
        _builder(subject, signer.subject, key.public_key(), now, timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([role]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
        )
    )
    if hosts:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(list(map(_as_name, hosts))), critical=False
        )
    return _signed(builder, key, signing)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lasts: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + lasts)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _as_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    """Those of the hosts that have names.

    Addresses are left out: the TLS of gRPC refuses every authority that is limited to some.
    """
    return [name for name in map(_as_name, hosts) if isinstance(name, x509.DNSName)]


def _signed(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, signing: ec.EllipticCurvePrivateKey
) -> Issued:
    return Issued(
        builder.sign(signing, hashes.SHA256()).public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
