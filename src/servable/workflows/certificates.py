"""``tls dev``: certificates for development, by an authority of one's own that nothing else trusts."""

import os
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from servable.artifact.files import storage_errors, sync_folder
from servable.clock import Clock, SystemClock, timestamp
from servable.security.authority import (
    DAYS,
    Issued,
    check_client,
    check_host,
    issue,
    new_authority,
    vouches,
)
from servable.settings import load_settings

#: Hosts that every certificate is for.
HOSTS = ("localhost", "127.0.0.1", "::1")
_FOLDER = "tls"


class ClientFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The certificate of a client.

    Attributes:
        name: of the client; the common name in it.
        cert: file of the certificate and its key.
    """

    name: str
    cert: str


class CertificateOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What was made.

    Attributes:
        ca: file of the authority, which clients must trust.
        cert: file of the server's certificate.
        key: file of its key.
        hosts: that it is for.
        until: from when it is not valid any more, ISO 8601 in UTC.
        new_authority: whether clients must be given the authority anew.
        clients: certificates of clients that were asked for.
    """

    ca: str
    cert: str
    key: str
    hosts: tuple[str, ...]
    until: str
    new_authority: bool
    clients: tuple[ClientFiles, ...] = ()


def development_certificate(
    hosts: Sequence[str] = (),
    *,
    clients: Sequence[str] = (),
    out: str | Path | None = None,
    home: str | Path | None = None,
    clock: Clock | None = None,
) -> CertificateOutcome:
    """Make a certificate for a server on this machine; nothing is installed anywhere.

    The authority is kept in the folder and used again while it can be, so that clients need it once.

    Args:
        hosts: more names and addresses that the server is reached by.
        clients: names of clients to make certificates for.
        out: the folder; ``tls`` in the home when None.
        home: looked up when None; only used to find the folder.
        clock: tells the time.

    Raises:
        InputError: a host or a name that is none, or files of an authority that are damaged.
        StorageFailed: the folder cannot be written.
        StorageFull: no space left.
    """
    wanted = tuple(dict.fromkeys((*HOSTS, *map(check_host, hosts))))
    names = tuple(dict.fromkeys(map(check_client, clients)))
    folder = Path(out) if out is not None else Path(load_settings({"home": home}).home) / _FOLDER
    now = (clock or SystemClock()).now()
    with storage_errors("writing certificates"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority, new = _authority(folder, wanted, now)
        # Keys must not be committed with a project that the folder happens to lie in.
        _put(folder / ".gitignore", b"*\n", 0o644)
        made = issue(authority, now, hosts=wanted)
        _put(folder / "key.pem", made.key, 0o600)
        _put(folder / "cert.pem", made.certificate, 0o644)
        shown = []
        for name in names:
            own = issue(authority, now, client=name)
            file = folder / f"client-{name}.pem"
            _put(file, own.certificate + own.key, 0o600)
            shown.append(ClientFiles(name=name, cert=str(file)))
        sync_folder(folder)
    return CertificateOutcome(
        ca=str(folder / "ca.pem"),
        cert=str(folder / "cert.pem"),
        key=str(folder / "key.pem"),
        hosts=wanted,
        until=timestamp(now + timedelta(days=DAYS)),
        new_authority=new,
        clients=tuple(shown),
    )


def _authority(folder: Path, hosts: Sequence[str], now: datetime) -> tuple[Issued, bool]:
    """The one of the folder, or a new one in its place when it does not do; and whether it is new."""
    chain, key = folder / "ca.pem", folder / "ca-key.pem"
    if chain.is_file() and key.is_file():
        found = Issued(chain.read_bytes(), key.read_bytes())
        if vouches(found.certificate, hosts, now):
            return found, False
    made = new_authority(hosts, now)
    _put(key, made.key, 0o600)
    _put(chain, made.certificate, 0o644)
    return made, True


def _put(file: Path, data: bytes, mode: int) -> None:
    """Write a file whole or not at all; nobody else can read a key at any moment.

    Raises:
        OSError: the storage refuses.
    """
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(data)
            os.fchmod(descriptor, mode)
            opened.flush()
            os.fsync(descriptor)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
