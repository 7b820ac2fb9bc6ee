"""Certificates of clients: over HTTP/1.1, HTTP/2 and gRPC, what they open, and what becomes of others."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import grpc
import servable
from servable.errors import RemoteError, ServerUnreachable, SettingInvalid
from servable.protocols.oip_messages import PACKAGE, SERVICE, messages
from servable.registry.home import open_home
from servable.security.certificates import NO_PEER, Peer
from servable.security.scopes import parse_scopes
from servable.server.certificates import MappedCertificates, NoCertificates, certificates_of
from servable.server.exposure import check_exposure
from servable.server.tls import Clients, FileCertificate, certificate_of
from servable.settings import ServerSettings
from servable.workflows.certificates import development_certificate
from serving.making import COLUMNS, publish_iris

ROW = dict(zip(COLUMNS, [5.1, 3.5, 1.4, 0.2], strict=True))


class Files:
    """Certificates of a server and of clients by one authority, and of a client by another."""

    def __init__(self, folder: Path) -> None:
        made = development_certificate(clients=["mobile", "stranger"], out=folder / "tls")
        other = development_certificate(clients=["mobile"], out=folder / "other")
        self.ca, self.cert, self.key = made.ca, made.cert, made.key
        self.mobile, self.stranger = (each.cert for each in made.clients)
        self.foreign = other.clients[0].cert
        self.map = folder / "clients.toml"
        self.map.write_text('"cn:mobile" = ["predict:iris"]\n')

    def settings(self, **more: Any) -> dict[str, Any]:
        base = {"tls_cert": self.cert, "tls_key": self.key, "tls_client_ca": self.ca}
        return {**base, "tls_client_map": str(self.map), **more}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("clients"))


@pytest.fixture(scope="module")
def served(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of a server of two processes that takes certificates and keys, and a key."""
    home = tmp_path_factory.mktemp("served") / "home"
    publish_iris(home)
    with open_home(home) as place:
        key = place.keys.create("ci", parse_scopes(["read"])).text
    given = files.settings(workers=2)
    with servable.serve(home=home, port=0, background=True, **given) as server:
        yield server.url, key


def test_a_certificate_opens_what_the_file_says(served: tuple[str, str], files: Files) -> None:
    url, _ = served
    with servable.Client(url, ca=files.ca, cert=files.mobile, api_key="") as client:
        assert client.predict("iris", ROW).prediction == "setosa"
    with servable.Client(url, ca=files.ca, cert=(files.mobile, files.mobile), api_key="") as client:
        assert client.predict("iris", ROW).prediction == "setosa"
    trust = ssl.create_default_context(cafile=files.ca)
    trust.load_cert_chain(files.mobile)
    with httpx.Client(verify=trust, base_url=url) as plain:
        # Behind Starlette as well, where everything is that is no prediction.
        assert plain.get("/models").json()["default"] == "iris"
        assert plain.get("/models/iris/report").status_code == 403
        assert plain.get("/metrics").status_code == 403


def test_the_client_of_asyncio_shows_one_as_well(served: tuple[str, str], files: Files) -> None:
    async def inside() -> Any:
        async with servable.AsyncClient(served[0], ca=files.ca, cert=files.mobile, api_key="") as client:
            return (await client.predict("iris", ROW)).prediction

    assert asyncio.run(inside()) == "setosa"


def test_the_environment_names_one(
    served: tuple[str, str], files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", files.ca)
    monkeypatch.setenv("SERVABLE_CLIENT_CERT", files.mobile)
    with servable.Client(served[0]) as client:
        assert client.predict("iris", ROW).prediction == "setosa"
    monkeypatch.setenv("SERVABLE_CLIENT_CERT", files.ca)
    with pytest.raises(SettingInvalid, match="no certificate with its key"):
        servable.Client(served[0])


def test_who_shows_none_or_an_unknown_one_needs_a_key(served: tuple[str, str], files: Files) -> None:
    url, key = served
    for cert in (None, files.stranger):
        with servable.Client(url, ca=files.ca, cert=cert, api_key="") as client:
            with pytest.raises(RemoteError) as caught:
                client.predict("iris", ROW)
            assert caught.value.remote_code == "unauthenticated"
        with servable.Client(url, ca=files.ca, cert=cert, api_key=key) as client:
            assert [model.name for model in client.models()] == ["iris"]


def test_a_key_that_is_shown_is_what_counts(served: tuple[str, str], files: Files) -> None:
    url, key = served
    with servable.Client(url, ca=files.ca, cert=files.mobile, api_key="sv_wrong") as client:
        with pytest.raises(RemoteError) as caught:
            client.predict("iris", ROW)
        assert caught.value.remote_code == "unauthenticated"
    with servable.Client(url, ca=files.ca, cert=files.mobile, api_key=key) as client:
        with pytest.raises(RemoteError) as caught:
            client.predict("iris", ROW)
        assert caught.value.remote_code == "forbidden"


def test_a_certificate_of_another_authority_does_not_connect(served: tuple[str, str], files: Files) -> None:
    url, key = served
    with (
        servable.Client(url, ca=files.ca, cert=files.foreign, api_key=key, retries=0) as client,
        pytest.raises(ServerUnreachable),
    ):
        client.models()
    assert call(url, files, files.foreign) == grpc.StatusCode.UNAVAILABLE


def call(url: str, files: Files, cert: str | None, key: str | None = None) -> grpc.StatusCode:
    """What a call of gRPC ends with."""
    pem = None if cert is None else Path(cert).read_bytes()
    credentials = grpc.ssl_channel_credentials(Path(files.ca).read_bytes(), pem, pem)
    asked: Any = messages()[f"{PACKAGE}.ModelMetadataRequest"](name="iris")
    metadata = [] if key is None else [("authorization", f"Bearer {key}")]
    with grpc.secure_channel(url.removeprefix("https://"), credentials) as channel:
        try:
            channel.unary_unary(f"/{PACKAGE}.{SERVICE}/ModelMetadata")(
                asked.SerializeToString(), metadata=metadata, timeout=20
            )
        except grpc.RpcError as error:
            return error.code()  # type: ignore[no-any-return]
    return grpc.StatusCode.OK


def test_certificates_over_grpc(served: tuple[str, str], files: Files) -> None:
    url, key = served
    assert call(url, files, files.mobile) == grpc.StatusCode.OK
    assert call(url, files, files.stranger) == grpc.StatusCode.UNAUTHENTICATED
    assert call(url, files, None) == grpc.StatusCode.UNAUTHENTICATED
    assert call(url, files, None, key) == grpc.StatusCode.OK
    assert call(url, files, files.mobile, "wrong") == grpc.StatusCode.UNAUTHENTICATED


def test_required_certificates(files: Files, home: Path) -> None:
    publish_iris(home)
    given = files.settings(tls_client_auth="require")
    with servable.serve(home=home, port=0, background=True, **given) as server:
        with servable.Client(server.url, ca=files.ca, retries=0) as client, pytest.raises(ServerUnreachable):
            client.models()
        trust = ssl.create_default_context(cafile=files.ca)
        with httpx.Client(verify=trust) as plain, pytest.raises(httpx.TransportError):
            plain.get(f"{server.url}/healthz")
        with servable.Client(server.url, ca=files.ca, cert=files.mobile) as client:
            assert client.predict("iris", ROW).prediction == "setosa"


def test_without_a_file_a_certificate_allows_nothing(files: Files, home: Path) -> None:
    publish_iris(home)
    with open_home(home) as place:
        place.keys.create("ci", parse_scopes(["read"]))
    with servable.serve(home=home, port=0, background=True, **files.settings(tls_client_map="")) as server:
        client = servable.Client(server.url, ca=files.ca, cert=files.mobile)
        with client, pytest.raises(RemoteError) as caught:
            client.predict("iris", ROW)
        assert caught.value.remote_code == "unauthenticated"


def test_another_file_counts_and_one_that_cannot_be_used_does_not(tmp_path: Path) -> None:
    file = tmp_path / "clients.toml"
    file.write_text('"cn:mobile" = "predict:iris"\n')
    clock = [1000.0]
    knows = MappedCertificates(file, lambda: clock[0])
    mobile = Peer(("cn:mobile", "dns:m.prod"), 2000.0)

    def may(need: Any) -> bool:
        found = knows.caller(mobile)
        return found is not None and found.may(need, "iris")

    assert may("predict")
    assert not knows.look()
    file.write_text("no scopes")
    assert not knows.look()
    assert may("predict")
    file.write_text('"dns:m.prod" = "read:iris"\n')
    assert knows.look()
    assert may("read")
    assert not may("predict")
    file.write_text("")
    assert knows.look()
    assert knows.caller(mobile) is None
    file.write_text('"*" = "read"\n')
    assert knows.look()
    assert may("read")
    assert knows.caller(NO_PEER) is None
    # A connection may be open for longer than its certificate is valid.
    clock[0] = 2000.0
    assert knows.caller(mobile) is None


def handshake(certificate: FileCertificate, cert: str | None, least: ssl.TLSVersion | None = None) -> str:
    """The common name that the server saw; empty for none. Raises what the server does."""
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    if least is not None:
        trust.maximum_version = least
    if cert is not None:
        trust.load_cert_chain(cert)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    assert certificate.context is not None
    client = trust.wrap_bio(to_client, to_server)
    server = certificate.context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    shown: Any = server.getpeercert()
    return dict(part[0] for part in shown["subject"])["commonName"] if shown else ""


def test_other_authorities_count_for_new_connections(files: Files, tmp_path: Path) -> None:
    authorities = tmp_path / "ca.pem"
    authorities.write_bytes(Path(files.ca).read_bytes())
    certificate = FileCertificate(Path(files.cert), Path(files.key), Clients(authorities))
    assert handshake(certificate, files.mobile) == "mobile"
    assert handshake(certificate, None) == ""
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(certificate, files.foreign)
    # Before TLS 1.3 everybody on the way could read the certificate of the client.
    with pytest.raises(ssl.SSLError):
        handshake(certificate, files.mobile, ssl.TLSVersion.TLSv1_2)
    authorities.write_text("half")
    assert not certificate.look()
    assert handshake(certificate, files.mobile) == "mobile"
    authorities.write_bytes((Path(files.foreign).parent / "ca.pem").read_bytes())
    assert certificate.look()
    assert handshake(certificate, files.foreign) == "mobile"
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(certificate, files.mobile)
    required = FileCertificate(Path(files.cert), Path(files.key), Clients(Path(files.ca), required=True))
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        handshake(required, None)
    # A certificate of a server is none of a client.
    own = tmp_path / "own.pem"
    own.write_bytes(Path(files.cert).read_bytes() + Path(files.key).read_bytes())
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(required, str(own))


def test_revoked_certificates_are_refused(files: Files, tmp_path: Path) -> None:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    signer = x509.load_pem_x509_certificate(Path(files.ca).read_bytes())
    key: Any = serialization.load_pem_private_key((Path(files.ca).parent / "ca-key.pem").read_bytes(), None)
    serial = x509.load_pem_x509_certificate(Path(files.stranger).read_bytes()).serial_number
    now = datetime.now(UTC)
    entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
    revoked = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.subject)
        .last_update(now - timedelta(minutes=1))
        .next_update(now + timedelta(days=1))
        .add_revoked_certificate(entry)
        .sign(key, hashes.SHA256())
    )
    both = tmp_path / "ca.pem"
    both.write_bytes(Path(files.ca).read_bytes() + revoked.public_bytes(serialization.Encoding.PEM))
    certificate = FileCertificate(Path(files.cert), Path(files.key), Clients(both))
    assert handshake(certificate, files.mobile) == "mobile"
    with pytest.raises(ssl.SSLError, match="revoked"):
        handshake(certificate, files.stranger)


def test_settings_that_do_not_belong_together(files: Files, tmp_path: Path) -> None:
    assert isinstance(certificates_of(ServerSettings()), NoCertificates)
    tls = {"tls_cert": files.cert, "tls_key": files.key}
    for given, said in (
        ({"tls_client_ca": files.ca}, "over TLS alone"),
        ({**tls, "tls_client_auth": "require"}, "against an authority"),
        ({**tls, "tls_client_ca": files.key}, "no certificates of authorities"),
        ({**tls, "tls_client_ca": str(tmp_path / "none.pem")}, "none.pem cannot be read"),
    ):
        with pytest.raises(SettingInvalid, match=said):
            certificate_of(ServerSettings(**given))
    with pytest.raises(SettingInvalid, match="name the authority"):
        certificates_of(ServerSettings(tls_client_map=str(files.map)))
    with pytest.raises(SettingInvalid, match="cannot be read"):
        certificates_of(ServerSettings(tls_client_ca=files.ca, tls_client_map=str(tmp_path / "none")))


def test_a_server_that_knows_certificates_may_listen_anywhere(files: Files, home: Path) -> None:
    publish_iris(home)
    check_exposure(ServerSettings(home=str(home), host="0.0.0.0", **files.settings()))
    with pytest.raises(SettingInvalid, match="servable keys create"):
        check_exposure(ServerSettings(home=str(home), host="0.0.0.0", **files.settings(tls_client_map="")))
