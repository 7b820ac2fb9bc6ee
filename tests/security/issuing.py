"""An issuer of tokens for tests: its keys, valid tokens, and every forgery."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ISSUER, AUDIENCE = "https://login.example.com/realms/main", "servable"


def encoded(data: bytes | Mapping[str, Any]) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def number(value: int, size: int | None = None) -> str:
    return encoded(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


class Issuer:
    """Keys of four kinds; ``sign`` makes a token of any header and payload."""

    def __init__(self) -> None:
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.large = ec.generate_private_key(ec.SECP384R1())
        self.ed = ed25519.Ed25519PrivateKey.generate()

    @property
    def keys(self) -> list[dict[str, Any]]:
        """The set of keys, of which some cannot be used for tokens."""
        numbers, point = self.rsa.public_key().public_numbers(), self.ec.public_key().public_numbers()
        large = self.large.public_key().public_numbers()
        plain = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
        raw = self.ed.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return [
            {**plain, "kid": "rsa", "use": "sig"},
            {**plain, "kid": "closing", "use": "enc"},
            {**plain, "kid": "only-256", "alg": "RS256"},
            {**plain, "use": "sig"},
            {"kty": "EC", "crv": "P-256", "kid": "ec", "x": number(point.x, 32), "y": number(point.y, 32)},
            {"kty": "EC", "crv": "P-384", "kid": "large", "x": number(large.x, 48), "y": number(large.y, 48)},
            {"kty": "EC", "crv": "P-256", "kid": "off", "x": number(1, 32), "y": number(1, 32)},
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": encoded(raw)},
            {"kty": "oct", "kid": "shared", "k": encoded(b"secret"), "alg": "HS256"},
            {"kty": "RSA", "kid": "broken"},
        ]

    @property
    def jwks(self) -> bytes:
        """The set of keys as issuers publish it."""
        return json.dumps({"keys": self.keys}).encode()

    def claims(self, **changed: Any) -> dict[str, Any]:
        """What a valid token says; None removes a claim."""
        now = int(time.time())
        base = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "alice",
            "scope": "openid predict:iris",
            "iat": now,
            "exp": now + 600,
        }
        return {name: value for name, value in {**base, **changed}.items() if value is not None}

    def token(self, algorithm: str = "ES256", head: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """A token that is signed as its header says."""
        kid = {"ES256": "ec", "EdDSA": "ed"}.get(algorithm, "rsa")
        header = {"alg": algorithm, "kid": kid, "typ": "JWT", **(head or {})}
        header = {name: value for name, value in header.items() if value is not None}
        return self.sign(algorithm, encoded(header), encoded(self.claims(**claims)))

    def sign(self, algorithm: str, header: str, payload: str) -> str:
        """A token of encoded parts."""
        text = f"{header}.{payload}"
        return f"{text}.{encoded(self._signature(algorithm, text.encode()))}"

    def _signature(self, algorithm: str, text: bytes) -> bytes:
        if algorithm == "RS256":
            return self.rsa.sign(text, padding.PKCS1v15(), hashes.SHA256())
        if algorithm == "PS256":
            return self.rsa.sign(text, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
        if algorithm == "EdDSA":
            return self.ed.sign(text)
        key, size, kind = (
            (self.large, 48, hashes.SHA384()) if algorithm == "ES384" else (self.ec, 32, hashes.SHA256())
        )
        first, second = decode_dss_signature(key.sign(text, ec.ECDSA(kind)))
        return first.to_bytes(size, "big") + second.to_bytes(size, "big")

    def forged(self, attacker: "Issuer", address: str) -> dict[str, str]:
        """Tokens that must not be accepted, by what is wrong with them.

        Args:
            attacker: has keys that are not trusted.
            address: of the attacker, where nobody may ask.
        """
        return {
            **self._confused(attacker),
            **self._altered(),
            **self._strange_heads(attacker, address),
            **self._wrong_claims(),
        }

    def _confused(self, attacker: "Issuer") -> dict[str, str]:
        valid = self.token()
        body, signature = encoded(self.claims()), valid.rpartition(".")[2]
        pem = self.rsa.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        der = self.rsa.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        found = {}
        for name in ("none", "None", "nOnE", ""):
            head = encoded({"alg": name, "kid": "ec"})
            found[f"alg {name!r} unsigned"] = f"{head}.{body}."
            found[f"alg {name!r} signed"] = f"{head}.{body}.{signature}"
        for name, secret in {"pem": pem, "der": der, "jwk": json.dumps(self.keys[0]).encode(),
                             "shared": b"secret", "empty": b""}.items():  # fmt: skip
            for kid in ("rsa", "ec", "shared"):
                text = f"{encoded({'alg': 'HS256', 'kid': kid})}.{body}"
                found[f"HS256 with {name} as {kid}"] = (
                    f"{text}.{encoded(hmac.digest(secret, text.encode(), hashlib.sha256))}"
                )
        found["an attacker's key"] = attacker.token()
        found["an attacker's RSA key"] = attacker.token("RS256")
        found["RS256 with the kid of EC"] = self.token("RS256", {"kid": "ec"})
        found["ES256 with the kid of RSA"] = self.token("ES256", {"kid": "rsa"})
        found["a key for closing"] = self.token("RS256", {"kid": "closing"})
        found["another algorithm than the key's"] = self.token("PS256", {"kid": "only-256"})
        found["the wrong curve"] = self.sign("ES384", encoded({"alg": "ES384", "kid": "large"}), body)
        found["the wrong curve as ES256"] = self.sign(
            "ES384", encoded({"alg": "ES256", "kid": "large"}), body
        )
        found["the wrong curve with a good kid"] = self.sign(
            "ES384", encoded({"alg": "ES256", "kid": "ec"}), body
        )
        found["no alg"] = self.token(head={"alg": None})
        found["alg as a list"] = self.token(head={"alg": ["ES256"]})
        return found

    def _altered(self) -> dict[str, str]:
        valid = self.token()
        head, body, signature = valid.split(".")
        other = encoded(self.claims(scope="admin:*"))
        return {
            "an empty signature": f"{head}.{body}.",
            "no signature": f"{head}.{body}",
            "a signature of zeros": f"{head}.{body}.{encoded(bytes(64))}",
            "a short signature": f"{head}.{body}.{signature[:-8]}",
            "a signature of another token": f"{head}.{body}.{self.token(sub='bob').rpartition('.')[2]}",
            "an altered payload": f"{head}.{other}.{signature}",
            "an altered header": f"{encoded({'alg': 'ES256', 'kid': 'ec', 'x': 1})}.{body}.{signature}",
            "letters that decoders pass over": f"{head}.{body}.{signature[:4]}!{signature[4:]}",
            "padding": f"{valid}==",
            "a fourth part": f"{valid}.{body}",
            "two tokens": f"{valid} {valid}",
            "nothing": "..",
            "the JSON form": json.dumps({"payload": body, "protected": head, "signature": signature}),
            "too long": self.token(more="x" * 9000),
        }

    def _strange_heads(self, attacker: "Issuer", address: str) -> dict[str, str]:
        found = {
            "crit": self.token(head={"crit": ["exp"], "exp": 1}),
            "crit without names": self.token(head={"crit": []}),
            "b64 false": self.token(head={"b64": False, "crit": ["b64"]}),
            "b64 false, not critical": self.token(head={"b64": False}),
            "compressed": self.token(head={"zip": "DEF"}),
            "nested": self.sign("ES256", encoded({"alg": "ES256", "kid": "ec", "cty": "JWT"}),
                                encoded(self.token().encode())),
            "nested without saying so": self.sign("ES256", encoded({"alg": "ES256", "kid": "ec"}),
                                                  encoded(self.token().encode())),
            "a token for the end of a session": self.token(head={"typ": "logout+jwt"}),
            "a proof of possession": self.token(head={"typ": "dpop+jwt"}),
            "a name twice in the header": self.sign(
                "ES256", encoded(b'{"alg":"none","alg":"ES256","kid":"ec"}'), encoded(self.claims())
            ),
            "a list as header": self.sign("ES256", encoded(b"[]"), encoded(self.claims())),
            "a deep header": self.sign("ES256", encoded(b"[" * 3000), encoded(self.claims())),
        }  # fmt: skip
        kids: dict[str, Any] = {
            "path": "../../../../dev/null",
            "sql": "' UNION SELECT 'secret' --",
            "shell": "ec|whoami",
            "zero byte": "ec\0",
            "list": ["ec"],
            "object": {"kid": "ec"},
            "number": 0,
            "empty": "",
            "long": "e" * 4000,
            "address": f"{address}/kid",
            "missing": None,
        }
        found |= {f"kid: {name}": self.token(head={"kid": kid}) for name, kid in kids.items()}
        own = {"jwk": attacker.keys[4], "jku": f"{address}/jku", "x5u": f"{address}/x5u", "x5c": ["AAAA"]}
        found |= {f"{name} of an attacker": attacker.token(head={name: own[name]}) for name in own}
        found |= {
            f"{name} and another kid": attacker.token(head={name: own[name], "kid": "new"}) for name in own
        }
        return found

    def _wrong_claims(self) -> dict[str, str]:
        now = int(time.time())
        wrong: dict[str, dict[str, Any]] = {
            "expired": {"exp": now - 120},
            "no end": {"exp": None},
            "an end as text": {"exp": str(now + 600)},
            "an end that is true": {"exp": True},
            "an end as a list": {"exp": [now + 600]},
            "an end below zero": {"exp": -1},
            "not yet valid": {"nbf": now + 600},
            "not yet valid, as text": {"nbf": str(now)},
            "issued later": {"iat": now + 600},
            "another audience": {"aud": "billing"},
            "no audience": {"aud": None},
            "an empty audience": {"aud": ""},
            "other audiences": {"aud": ["billing", "servable2"]},
            "an audience as an object": {"aud": {"servable": True}},
            "audiences that are none": {"aud": [["servable"]]},
            "another issuer": {"iss": "https://evil.example.com"},
            "an issuer with a slash": {"iss": f"{ISSUER}/"},
            "no issuer": {"iss": None},
            "issuers": {"iss": [ISSUER]},
            "a subject as an object": {"sub": {"name": "alice"}},
        }
        found = {name: self.token(**claims) for name, claims in wrong.items()}
        head = encoded({"alg": "ES256", "kid": "ec"})
        text = json.dumps(self.claims(exp=now + 600))
        doubled = {
            "an audience twice": f'{{"aud":"billing",{text[1:]}',
            "a scope twice": f'{{"scope":"admin:*",{text[1:]}',
            "a name twice deep inside": f'{{"a":{{"b":1,"b":2}},{text[1:]}',
            "an end that is not finite": text.replace(f'"exp": {now + 600}', '"exp": 1e999'),
            "an end that is no number": text.replace(f'"exp": {now + 600}', '"exp": Infinity'),
            "a very long number": text.replace(f'"exp": {now + 600}', f'"exp": {"9" * 5000}'),
            "a list": f"[{text}]",
            "no JSON": text[:-1],
            "deep": "[" * 5000,
        }
        found |= {name: self.sign("ES256", head, encoded(body.encode())) for name, body in doubled.items()}
        return found
