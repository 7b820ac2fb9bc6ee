"""TLS by the server itself: HTTP/1.1, HTTP/2 and gRPC, renewal, and what cannot be used."""

import datetime
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import grpc
import servable
from servable.errors import ServerUnreachable, SettingInvalid
from servable.protocols.oip_messages import PACKAGE, SERVICE
from servable.server.tls import FileCertificate, NoCertificate, certificate_of
from servable.settings import ServerSettings
from serving.making import COLUMNS, publish_iris

ROW = dict(zip(COLUMNS, [5.1, 3.5, 1.4, 0.2], strict=True))


def write_certificate(
    folder: Path, name: str = "servable", password: bytes | None = None
) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    chain, private = folder / "cert.pem", folder / "key.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)
    )
    return chain, private


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module", params=[1, 2], ids=["alone", "workers"])
def url(
    request: pytest.FixtureRequest, files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    home = tmp_path_factory.mktemp("served") / "home"
    publish_iris(home)
    given = {"tls_cert": str(files[0]), "tls_key": str(files[1]), "workers": request.param}
    with servable.serve(home=home, port=0, background=True, **given) as server:
        assert server.url.startswith("https://")
        yield server.url


def test_callers_who_trust_the_certificate_are_answered(url: str, files: tuple[Path, Path]) -> None:
    with servable.Client(url, ca=files[0]) as client:
        assert client.predict("iris", ROW).prediction == "setosa"
        # Larger than what is read at once, and read straight into its place.
        assert len(client.predict("iris", [ROW] * 20_000).predictions) == 20_000
    trust = ssl.create_default_context(cafile=str(files[0]))
    with httpx.Client(verify=trust, base_url=url) as plain:
        page = plain.get("/", headers={"accept": "text/html"})
        assert f"{url}/models/iris/predict" in page.text
        assert plain.get("/models").json()["default"] == "iris"


def test_a_caller_who_does_not_trust_it_says_so(url: str) -> None:
    with servable.Client(url, retries=0) as client, pytest.raises(ServerUnreachable, match="certificate"):
        client.models()


def test_http2_and_grpc_are_agreed_on(url: str, files: tuple[Path, Path]) -> None:
    trust = ssl.create_default_context(cafile=str(files[0]))
    trust.set_alpn_protocols(["h2"])
    host, _, port = url.removeprefix("https://").rpartition(":")
    with (
        socket.create_connection((host, int(port))) as raw,
        trust.wrap_socket(raw, server_hostname=host) as tls,
    ):
        assert (tls.selected_alpn_protocol(), tls.version()) == ("h2", "TLSv1.3")
    credentials = grpc.ssl_channel_credentials(files[0].read_bytes())
    with grpc.secure_channel(f"{host}:{port}", credentials) as channel:
        live = channel.unary_unary(f"/{PACKAGE}.{SERVICE}/ServerLive")(b"", timeout=20)
        assert live == b"\x08\x01"


def test_old_versions_and_plain_http_are_refused(url: str) -> None:
    host, _, port = url.removeprefix("https://").rpartition(":")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection((host, int(port))) as raw, pytest.raises(ssl.SSLError):
        old.wrap_socket(raw)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(url.replace("https", "http") + "/healthz")


def test_a_renewed_certificate_is_shown_to_new_connections(tmp_path: Path) -> None:
    chain, key = write_certificate(tmp_path / "one", "old")
    certificate = FileCertificate(chain, key)
    assert not certificate.look()
    new = write_certificate(tmp_path / "two", "new")
    # Half of a renewal is not used, and the old one stays.
    chain.write_bytes(new[0].read_bytes())
    assert not certificate.look()
    assert shown_by(certificate) == "old"
    key.write_bytes(new[1].read_bytes())
    assert certificate.look()
    assert shown_by(certificate) == "new"
    key.unlink()
    assert not certificate.look()
    assert shown_by(certificate) == "new"


def shown_by(certificate: FileCertificate) -> str:
    """The name in the certificate that a new connection gets to see."""
    assert certificate.context is not None
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trust.wrap_bio(to_client, to_server)
    server = certificate.context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    found = client.getpeercert(binary_form=True)
    assert found is not None
    (name,) = x509.load_der_x509_certificate(found).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)


def test_what_cannot_be_used_is_said(tmp_path: Path, files: tuple[Path, Path]) -> None:
    assert isinstance(certificate_of(ServerSettings()), NoCertificate)
    cert, key = map(str, files)
    other = write_certificate(tmp_path / "other", password=b"secret")
    for given, said in (
        ({"tls_cert": cert}, "belong together"),
        ({"tls_key": key}, "belong together"),
        ({"tls_cert": cert, "tls_key": str(tmp_path / "none.pem")}, "none.pem cannot be read"),
        ({"tls_cert": key, "tls_key": key}, "no certificate with its key"),
        ({"tls_cert": cert, "tls_key": str(other[1])}, "no certificate with its key"),
        ({"tls_cert": str(tmp_path), "tls_key": key}, "cannot be read"),
    ):
        with pytest.raises(SettingInvalid, match=said):
            certificate_of(ServerSettings(**given))


def test_a_client_that_does_not_agree_on_encryption_is_dropped(files: tuple[Path, Path], home: Path) -> None:
    publish_iris(home)
    given = {"tls_cert": str(files[0]), "tls_key": str(files[1]), "header_timeout_s": 0.3}
    with servable.serve(home=home, port=0, background=True, **given) as server:
        host, _, port = server.url.removeprefix("https://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as silent:
            started = time.monotonic()
            assert silent.recv(1) == b""
            assert time.monotonic() - started < 5
