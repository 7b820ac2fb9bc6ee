"""Files that say what names allow."""

import pytest

from servable.errors import SettingInvalid
from servable.security.certificates import NO_PEER, peer_of
from servable.security.grants import granted, parse_grants
from servable.security.limits import NO_LIMITS, Limits, Rate


def test_names_have_scopes() -> None:
    text = b'"cn:mobile" = ["predict:income", "feedback:income"]\n"uri:spiffe://prod/*" = "read"\n'
    grants = parse_grants(text, "map.toml")

    def scopes(*names: str) -> list[str]:
        return list(map(str, granted(grants, names).scopes))

    assert scopes("cn:mobile") == ["predict:income", "feedback:income"]
    assert scopes("uri:spiffe://prod/a", "cn:mobile") == ["predict:income", "feedback:income", "read:*"]
    assert scopes() == scopes("cn:mobile2", "cn:mobil", "CN:mobile", "dns:mobile", "uri:spiffe://prod") == []


def test_names_may_have_limits_and_the_largest_of_several_counts() -> None:
    text = b"""
    "cn:*" = {scopes = "predict", rate = "60/min", concurrency = 8}
    "cn:batch" = {scopes = ["read"], rate = "2/s", quota = "1k/day", concurrency = 2}
    "dns:free" = "read"
    """
    grants = parse_grants(text, "map.toml")
    assert granted(grants, ["cn:app"]).limits == Limits(Rate(60, 60), 0, 8)
    both = granted(grants, ["cn:batch", "dns:free"])
    assert both.limits == Limits(Rate(2, 1), 1000, 8)
    assert list(map(str, both.scopes)) == ["predict:*", "read:*"]
    assert granted(grants, ["dns:free"]).limits == granted(grants, ["dns:other"]).limits == NO_LIMITS


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
        (b'{"a": {"scopes": "read", "limit": 5}}', "map.json", "'a' in map.json has 'limit'; it may have"),
        (b'{"a": {"scopes": [], "rate": "5/s"}}', "map.json", "at least one scope"),
        (b'{"a": {"scopes": "read", "rate": "often"}}', "map.json", "'a' in map.json: 'often' is no rate"),
        (b'{"a": {"scopes": "read", "rate": 5}}', "map.json", "rate must be a text"),
        (b'{"a": {"scopes": "read", "quota": 5}}', "map.json", "quota must be a text"),
        (b'{"a": {"scopes": "read", "concurrency": true}}', "map.json", "concurrency must be a whole"),
        (b'{"a": {"scopes": "read", "concurrency": 0}}', "map.json", "A concurrency is a number"),
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
