"""Signed checkpoints: what is signed is believed, and nothing else."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from servable.errors import InputError
from servable.security.audit_chain import Head, Seen
from servable.security.checkpoints import (
    key_bytes,
    new_signing_key,
    notes_in,
    opened,
    public_key,
    read_signing_key,
    signed,
)

HEAD = Head("0123456789abcdef", 41, "ab" * 32)
AT = "2026-01-31T12:00:00Z"


def test_a_checkpoint_is_a_signed_note() -> None:
    key = new_signing_key()
    note = signed(key, HEAD, AT)
    body, _, rest = note.partition("\n\n")
    root = base64.b64encode(bytes.fromhex(HEAD.hash)).decode()
    assert body == f"servable/audit/0123456789abcdef\n41\n{root}\n{AT}"
    # The lines as C2SP writes them: a dash, the name, and the key's four bytes before the signature.
    dash, name, encoded = rest.removesuffix("\n").split(" ")
    assert (dash, name) == ("\N{EM DASH}", "servable/audit")
    raw = base64.b64decode(encoded)
    public = base64.b64decode(key.public.split("+", 2)[2])
    assert public[:1] == b"\1"
    assert raw[:4] == hashlib.sha256(b"servable/audit\n" + public).digest()[:4]
    public_key(key.public).verify(raw[4:], (body + "\n").encode())
    assert opened(next(notes_in(note)), [key.public], "x") == Seen(HEAD, AT, cut=False, place="x")


def test_a_file_may_hold_many_and_what_others_signed() -> None:
    key, other = new_signing_key(), new_signing_key()
    cut = signed(key, HEAD, AT, cut=True)
    witnessed = signed(key, HEAD, AT) + "\N{EM DASH} witness.example/w1 jWbPPwAAAABkGFDLEZMHwSRa\n"
    notes = list(notes_in(f"\n{cut}\n{witnessed}{signed(other, HEAD, AT)}"))
    found = [opened(note, [key.public]) for note in notes]
    assert [one and one.cut for one in found] == [True, False, None]
    assert list(notes_in("")) == []


@pytest.mark.parametrize(
    ("old", "new"), [("\n41\n", "\n42\n"), (AT, "2026-01-31T12:00:01Z"), ("cdef", "cdee")]
)
def test_a_changed_checkpoint_is_refused(old: str, new: str) -> None:
    key = new_signing_key()
    note = signed(key, HEAD, AT).replace(old, new, 1)
    with pytest.raises(InputError, match="it was changed"):
        opened(next(notes_in(note)), [key.public])


def test_a_checkpoint_does_not_become_a_cut() -> None:
    key = new_signing_key()
    note = signed(key, HEAD, AT).replace(f"{AT}\n", f"{AT}\ncut\n")
    with pytest.raises(InputError, match="it was changed"):
        opened(next(notes_in(note)), [key.public])


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "hello\n\n\N{EM DASH} servable/audit AAAA\n",
        "servable/audit/0123456789abcdef\n-1\nx\n\n\N{EM DASH} servable/audit AAAA\n",
        signed(new_signing_key(), HEAD, AT).split("\n\n")[0] + "\n\n",
        signed(new_signing_key(), HEAD, AT).replace("audit ", "audit !"),
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no signed checkpoint"):
        list(notes_in(text))


def test_keys_are_told_from_other_texts() -> None:
    key = new_signing_key()
    assert read_signing_key(key_bytes(key)).public == key.public
    public_key(f" {key.public}\n")
    name, number, encoded = key.public.split("+", 2)
    for text in ("", "a+b+c", f"{name}+00000000+{encoded}", f"other+{number}+{encoded}", key.public[:-4]):
        with pytest.raises(InputError, match="no public key"):
            public_key(text)
    with pytest.raises(InputError, match="no private key"):
        read_signing_key(b"-----BEGIN PRIVATE KEY-----\n")
    foreign = generate_private_key(SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    with pytest.raises(InputError, match="another kind of key"):
        read_signing_key(foreign)
