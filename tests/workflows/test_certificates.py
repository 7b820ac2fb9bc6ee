"""``tls dev``: certificates that this machine's clients accept, and nobody else's."""

import ssl
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from servable.errors import InputError, StorageFailed
from servable.security.authority import AUTHORITY_DAYS, DAYS, Issued, issue, new_authority
from servable.testing import FakeClock
from servable.workflows.certificates import CertificateOutcome, development_certificate


def agreed(outcome: CertificateOutcome, ca: str, host: str) -> bool:
    """Whether a client that trusts an authority goes on with a server of a host."""
    trust = ssl.create_default_context(cafile=ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(outcome.cert, outcome.key)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        trust.wrap_bio(to_client, to_server, server_hostname=host),
        context.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(3):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    return True


def test_a_client_that_trusts_the_authority_accepts_the_server(tmp_path: Path) -> None:
    made = development_certificate(["Dev.Local", "10.0.0.7"], out=tmp_path / "tls")
    other = development_certificate(out=tmp_path / "other")
    assert made.hosts == ("localhost", "127.0.0.1", "::1", "dev.local", "10.0.0.7")
    for host in made.hosts:
        assert agreed(made, made.ca, host), host
        assert not agreed(made, other.ca, host)
    assert not agreed(made, made.ca, "example.com")


def test_keys_are_their_owners_alone(tmp_path: Path) -> None:
    made = development_certificate(clients=["ci"], out=tmp_path / "tls")
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "tls").iterdir()}
    assert modes == {
        ".gitignore": 0o644,
        "ca.pem": 0o644,
        "ca-key.pem": 0o600,
        "cert.pem": 0o644,
        "key.pem": 0o600,
        "client-ci.pem": 0o600,
    }
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    found = x509.load_pem_x509_certificate(Path(made.clients[0].cert).read_bytes())
    (role,) = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert role == ExtendedKeyUsageOID.CLIENT_AUTH


def test_the_authority_is_kept_as_long_as_it_does(tmp_path: Path) -> None:
    clock = FakeClock()
    first = development_certificate(out=tmp_path, clock=clock)
    kept = Path(first.ca).read_bytes()
    again = development_certificate(["10.0.0.7"], out=tmp_path, clock=clock)
    assert (first.new_authority, again.new_authority) == (True, False)
    assert Path(again.ca).read_bytes() == kept
    # It cannot vouch for another name, nor for as long as a certificate should be valid.
    assert development_certificate(["dev.local"], out=tmp_path, clock=clock).new_authority
    assert not development_certificate(out=tmp_path, clock=clock).new_authority
    clock.advance((AUTHORITY_DAYS - DAYS) * 86_400 + 1)
    assert development_certificate(out=tmp_path, clock=clock).new_authority
    (tmp_path / "ca.pem").write_text("damaged")
    assert development_certificate(out=tmp_path, clock=clock).new_authority


def test_the_authority_vouches_for_no_other_site() -> None:
    clock = FakeClock()
    authority = new_authority(["localhost", "127.0.0.1"], clock.now())
    found = x509.load_pem_x509_certificate(authority.certificate)
    limits = found.extensions.get_extension_for_class(x509.NameConstraints)
    assert limits.critical
    assert limits.value.permitted_subtrees == [x509.DNSName("localhost")]
    assert found.not_valid_after_utc - clock.now() == timedelta(days=AUTHORITY_DAYS)


def test_a_stolen_authority_is_of_no_use_for_other_sites(tmp_path: Path) -> None:
    made = development_certificate(out=tmp_path)
    authority = Issued((tmp_path / "ca.pem").read_bytes(), (tmp_path / "ca-key.pem").read_bytes())
    from servable.clock import SystemClock

    forged = issue(authority, SystemClock().now(), hosts=["bank.example.com"])
    Path(made.cert).write_bytes(forged.certificate)
    Path(made.key).write_bytes(forged.key)
    assert not agreed(made, made.ca, "bank.example.com")


def test_what_cannot_be_made_is_said(tmp_path: Path) -> None:
    for hosts, clients, said in (
        (["*.local"], [], "is no host"),
        (["a b"], [], "is no host"),
        ([f"{'a' * 64}.local"], [], "is no host"),
        ([], ["../ci"], "no name for a client"),
        ([], ["ci.example.com"], "no name for a client"),
    ):
        with pytest.raises(InputError, match=said):
            development_certificate(hosts, clients=clients, out=tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match="writing certificates"):
        development_certificate(out=tmp_path / "file")
    development_certificate(out=tmp_path / "tls")
    (tmp_path / "tls" / "ca-key.pem").write_text("damaged")
    with pytest.raises(InputError, match="damaged"):
        development_certificate(out=tmp_path / "tls")
