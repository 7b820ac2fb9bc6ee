"""Files that say what names allow."""

import pytest

from servable.errors import SettingInvalid
from servable.security.certificates import NO_PEER, peer_of
from servable.security.grants import granted, parse_grants


def test_names_have_scopes() -> None:
    text = b'"cn:mobile" = ["predict:income", "feedback:income"]\n"uri:spiffe://prod/*" = "read"\n'
    grants = parse_grants(text, "map.toml")

    def scopes(*names: str) -> list[str]:
        return list(map(str, granted(grants, names)))

    assert scopes("cn:mobile") == ["predict:income", "feedback:income"]
    assert scopes("uri:spiffe://prod/a", "cn:mobile") == ["predict:income", "feedback:income", "read:*"]
    assert scopes() == scopes("cn:mobile2", "cn:mobil", "CN:mobile", "dns:mobile", "uri:spiffe://prod") == []


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"=", "map.toml", "not valid TOML"),
        (b"{", "map.json", "not valid JSON"),
        (b"\xff", "map.toml", "not valid TOML"),
        (b"[]", "map.json", "no names"),
        (b'{"a": 1}', "map.json", "must have a scope"),
        (b'{"a": ["predict", 1]}', "map.json", "must have a scope"),
        (b'{"a": []}', "map.json", "at least one scope"),
        (b'{"a": "delete:iris"}', "map.json", "'a' in map.json: 'delete:iris' is no scope"),
        # Names with dots must be in quotes.
        (b'dns.a = "read"', "map.toml", "'dns' in map.toml must have"),
        (b"#" * 2_000_000, "map.toml", "larger than"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(content: bytes, name: str, said: str) -> None:
    with pytest.raises(SettingInvalid, match=said):
        parse_grants(content, name)


def test_the_names_in_a_certificate() -> None:
    assert peer_of(None) is peer_of({}) is NO_PEER
    described = {
        "subject": ((("organizationName", "x"),), (("commonName", "mobile"),)),
        "subjectAltName": (("URI", "spiffe://prod/mobile"), ("DNS", "m.prod"), ("IP Address", "10.0.0.1")),
        "notAfter": "Jan  1 00:00:00 2030 GMT",
    }
    peer = peer_of(described)
    assert peer.names == ("cn:mobile", "uri:spiffe://prod/mobile", "dns:m.prod")
    assert peer.until == 1893456000
    twice = {**described, "subject": ((("commonName", "a"),), (("commonName", "b"),)), "subjectAltName": ()}
    assert peer_of(twice).names == ()
