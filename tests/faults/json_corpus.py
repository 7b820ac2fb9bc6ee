"""A corpus of JSON texts, well-formed and not, each with what must become of it.

Written from RFC 8259, case by case, not copied from anywhere. A text is a JSON value (or is meant to be
none); ``bodies`` puts it where a value can stand in a request.
"""

import json
from collections.abc import Iterator
from typing import Literal, NamedTuple

#: ``fine``: well-formed. ``wrong``: not JSON. ``refused``: the grammar allows it and a server need not.
Verdict = Literal["fine", "wrong", "refused"]


class Case(NamedTuple):
    """One text.

    Attributes:
        kind: the family, for counting.
        text: the bytes.
        verdict: what must become of it.
    """

    kind: str
    text: bytes
    verdict: Verdict


_NUMBERS = """
    0 -0 1 -1 10 123456789 0.0 -0.0 0.5 1.5 -1.5 0.1 1e0 1E0 1e+0 1e-0 1E+2 1E-2 1e5 1.0e5 0e0 0e1
    0E+1 -0e-1
    1e22 1e23 1e-7 1e-400 123.456e78 1.7976931348623157e308 -1.7976931348623157e308 5e-324
    2.2250738585072014e-308
    2.225073858507201e-308 9007199254740993 9223372036854775807 -9223372036854775808 9223372036854775808
    18446744073709551615 18446744073709551616 123456789012345678901234567890 0.30000000000000004
    3.14159265358979
    100000000000000000000000 0.000000000000000000000000000000000000000000000000000000000000001 1e00000000001
    1e-00000000001 4.35 0.1e1 179769313486231580793728971405301e276 1e308
"""
_NO_NUMBERS = """
    01 -01 00 -00 1. -1. .5 -.5 +1 ++1 --1 - + . e e5 1e 1e+ 1e- 1E 1.e1 1.5.5 1e5.5 1e1e1 0x1 0X1F
    0b1 0o7 1_000
    1,5 NaN -NaN nan Infinity -Infinity +Infinity inf -inf Inf 1f 1.0f 1d 1L 1n 1/2 1% $1 ０ １ ¹ ٣ −1
    1e１ 0.1２ 1- 1+1
    -a 0a 012 0.1.2 1ee1 1e+-1 0e 0E+ .1e1 -e1 1. 2.e3 0.e1 -2. 1a 1.5a #1 ~1 1j
"""
_STRINGS = [
    "", "a", " ", "é", "日本語", "😀", "a\\nb", "\\\"", "\\\\", "\\/", "\\b\\f\\n\\r\\t", "\\u0041",
    "\\u00e9", "\\uD83D\\uDE00",
    "\\ud83d\\ude00", "\\u0000", "\\u001f", "\\u007f", "\x7f", "\\uFFFF", "\\ufeff", "\ufeff",
    "\u2028", "\u2029", "\uffff", "\U0010ffff",
    "\\uDBFF\\uDFFF", "a/b", "'", "null", "[1]", "{}", "\\u005b\\u005b", "//", "/* */", "input",
    "\\u0069nput", "x" * 1000, "\\\\n", "\\\\u0041",
    "\u0300", "\u202e", "0", "NaN", "a" * 63 + "é",
]  # fmt: skip
_NO_STRINGS: list[bytes] = [
    b'"', b'"a', b'a"', b"'a'", b"a", b'"\\"', b'"\\', b'"\\a"', b'"\\x41"', b'"\\u"', b'"\\u1"',
    b'"\\u12"', b'"\\u123"', b'"\\uZZZZ"', b'"\\u 041"',
    b'"\\U0041"', b'"\\u004G"', b'"\\ "', b'"\\0"', b"\"\\'\"", b'"\n"', b'"\t"', b'"\r"',
    b'"\x00"', b'"\x1f"', b'"\x0b"', b'"a\nb"', b'"a" "b"', b'""a',
    b'"\xff"', b'"\xfe"', b'"\x80"', b'"\xc0\x80"', b'"\xc1\xbf"', b'"\xe0\x80\x80"',
    b'"\xe0\x9f\xbf"', b'"\xed\xa0\x80"', b'"\xed\xbf\xbf"',
    b'"\xed\xa0\xbd\xed\xb8\x80"', b'"\xf0\x80\x80\x80"', b'"\xf0\x8f\xbf\xbf"',
    b'"\xf4\x90\x80\x80"', b'"\xf5\x80\x80\x80"', b'"\xf8\x88\x80\x80\x80"',
    b'"\xc3"', b'"\xe2\x82"', b'"\xf0\x9f\x98"', b'"\xc3("', b'"\xe9"', b'"\xff\xff\xff"', b"`a`",
    b'"a\x00b"', b'\\"a"',
]  # fmt: skip
_LONE: list[bytes] = [
    b'"\\ud800"', b'"\\udc00"', b'"\\uDFFF"', b'"\\ud800\\ud800"', b'"\\ud83d"',
    b'"\\ude00\\ud83d"', b'"\\ud800a"', b'"a\\udc00"',
    b'"\\ud800\\u0041"', b'"\\ud800\\n"',
]  # fmt: skip
_STRUCTURES = """
    [] {} [[]] [{}] {"a":1} {"a":{}} {"a":[]} [1,2] [1,"a",null,true,false] {"a":1,"b":2} {"":0}
    {"":{"":{}}} null true
    false [null] [true] [[1],[2]] {"a":[{"b":[]}]} [[],[[]]] {"a":null} {"a":true} {"input":1}
    {"__proto__":1}
    {"constructor":{}} {"a.b":1} {"a[0]":1} {"\\u0061":1} [0,0,0,0,0,0,0,0,0,0] {"$ref":"#"}
    [{"a":1},{"a":2}]
"""
_SPACED = [
    "[ ]",
    " [ 1 , 2 ] ",
    '\t{ "a" : 1 }\n',
    "\r\n[1]\r\n",
    "[1\n,\n2]",
    "{ }",
    " 1 ",
    " null\n",
    '\n"a"\t',
]
_REPEATED = ['{"a":1,"a":2}', '{"a":1,"a":1}', '{"a":1,"\\u0061":2}', '{"":1,"":2}', '{"a":{},"a":[]}']
_NO_STRUCTURES = """
    [ ] { } [1 1] [1,] [,1] [,] [,,] [1,,2] [1;2] [1:2] [} {] [1} {"a":1] ]1[ }{ [[] []] [[1] [1]]
    {"a"} {"a":} {:1} {"a"::1}
    {"a":1,} {,"a":1} {"a":1,,"b":2} {"a":1"b":2} {"a":1;"b":2} {"a"=1} {a:1} {'a':1} {1:1} {null:1}
    {true:1} {[]:1} {"a":1:2}
    {"a":1}} {"a":1}{"b":2} [1][2] [1]a a[1] nul nulll tru truee fals False True None NULL Null
    undefined void ? * & @ // #
    /**/1 [1]//x [1/**/] <1> (1) [1)] {"a":1)] {"a":'b'} ["a",'b'] [1,2 {"a":[1,2} {"a":{"b":1}
    true,false 1,2 "a","b" {"a"
    {"a": {"a":1, ["a" ["a", {"a":t} [t] [f] [n] [+] [-] [.] [e] [nan] [1,NaN] {"a":Infinity} null,
    \\n [\\n] \\u005b1] {"a\\":1} \\"a\\" %5B1%5D [1]\\ ...
"""
_NO_SPACE = [b"[\x0b]", b"[\x0c]", b"[\xc2\xa0]", b"[\xe2\x80\xa8]", b"[\xe3\x80\x80]", b"[1\x00]",
    b"[\x001]", b"\x00", b"\x00[1]", b"[1]\x00", b"[1]\x1a",
             b"\x0c[1]", b"\xc2\xa0[1]", b"[1\xe2\x80\x8b]", b"[\x7f]", b"[\x1f1]", b"\x08",
             b"\x1b[1]", b"\x04"]  # fmt: skip
_UNICODE = '{"input": [1]}'


def _encodings() -> Iterator[Case]:
    for name in ("utf-16-le", "utf-16-be", "utf-16", "utf-32-le", "utf-32-be", "utf-32", "cp037"):
        yield Case("encoding", _UNICODE.encode(name), "wrong")
    for mark in (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb", b"\xef"):
        for text in (b"[1]", b"{}", b"1", b'{"input":[1]}'):
            yield Case("encoding", mark + text, "wrong")
    for text in ('"é"', '["ÿ"]', '{"é":1}'):
        yield Case("encoding", text.encode("latin-1"), "wrong")
    for prefix in (b")]}',\n", b"while(1);", b"\x1e", b"data: ", b"callback("):
        yield Case("encoding", prefix + b"[1]", "wrong")


def _depths() -> Iterator[Case]:
    for levels in (1, 2, 8, 32, 60):
        yield Case("depth", b"[" * levels + b"]" * levels, "fine")
        yield Case("depth", b'{"a":' * levels + b"1" + b"}" * levels, "fine")
    for levels in (65, 66, 128, 1_000, 1_024, 1_025, 10_000, 100_000, 250_000):
        yield Case("depth", b"[" * levels + b"]" * levels, "refused")
        yield Case("depth", b"[" * levels, "wrong")
        yield Case("depth", b'{"a":' * levels + b"1" + b"}" * levels, "refused")
        yield Case("depth", b'{"a":[' * (levels // 2 + 1) + b"]}" * (levels // 2 + 1), "refused")
        yield Case("depth", b'{"a":' * levels, "wrong")
    # Brackets in strings are no levels.
    yield Case("depth", json.dumps("[" * 10_000).encode(), "fine")
    yield Case("depth", json.dumps('\\"[{' * 1_000).encode(), "fine")
    yield Case("depth", b'"' + b'\\"' * 50_000, "wrong")
    yield Case("depth", b"]" * 100_000, "wrong")
    yield Case("depth", b"[]" * 100_000, "wrong")
    yield Case("depth", b"[" + b"[]," * 10_000 + b"[]]", "fine")


def _sizes() -> Iterator[Case]:
    for digits in (20, 100, 308, 1_000, 4_300, 4_301, 100_000):
        verdict: Verdict = "fine" if digits <= 1_000 else "refused"
        yield Case("size", b"9" * digits, verdict)
        yield Case("size", b"-" + b"9" * digits, verdict)
        yield Case("size", b"0." + b"1" * digits, "fine")
        yield Case("size", b"1" + b"0" * digits, verdict)
        yield Case("size", b"1e" + b"9" * digits, "refused")
        yield Case("size", b"1e-" + b"9" * digits, "refused")
        yield Case("size", b"0" * digits, "wrong")
    for number in (b"1e309", b"-1e309", b"1e999", b"1.8e308", b"1e99999999999999999999"):
        yield Case("size", number, "refused")
    yield Case("size", b'"' + b"a" * 200_000 + b'"', "fine")
    yield Case("size", b'"' + b"\\u0041" * 20_000 + b'"', "fine")
    yield Case("size", b"[" + b"1," * 50_000 + b"1]", "fine")
    yield Case("size", b"{" + b",".join(b'"k%d":%d' % (n, n) for n in range(5_000)) + b"}", "fine")
    yield Case("size", b" " * 100_000 + b"1", "fine")
    yield Case("size", b" " * 100_000, "wrong")
    yield Case("size", b"\n" * 100_000, "wrong")
    yield Case("size", b"", "wrong")


def _cuts() -> Iterator[Case]:
    """Every beginning of a text that is complete only at its end."""
    whole = '{"input": [1.5e3, "a\\u00e9é", null, true, {"b": []}]}'.encode()
    for length in range(1, len(whole)):
        yield Case("cut", whole[:length], "wrong")
    yield Case("cut", whole, "fine")


def cases() -> list[Case]:
    """The whole corpus, always the same."""
    found = [Case("number", text.encode(), "fine") for text in _NUMBERS.split()]
    found += [Case("number", text.encode(), "wrong") for text in _NO_NUMBERS.split()]
    found += [Case("string", f'"{text}"'.encode(), "fine") for text in _STRINGS]
    found += [Case("string", text, "wrong") for text in _NO_STRINGS]
    found += [Case("surrogate", text, "refused") for text in _LONE]
    found += [Case("structure", text.encode(), "fine") for text in [*_STRUCTURES.split(), *_SPACED]]
    found += [Case("structure", text.encode(), "wrong") for text in _NO_STRUCTURES.split()]
    found += [Case("structure", text, "wrong") for text in _NO_SPACE]
    found += [Case("repeated key", text.encode(), "fine") for text in _REPEATED]
    return [*found, *_encodings(), *_depths(), *_sizes(), *_cuts()]


#: Where a value can stand in a request; ``%`` is the place.
PLACES = (
    b"%", b'{"input":%}', b'{"input":[%]}', b'{"inputs":%}', b'{"inputs":[%]}',
    b'{"inputs":[[1],%]}', b'{"input":{"value":%}}',
    b'{"input":[1],"extra":%}', b'{"input":%,"input":[1]}',
)  # fmt: skip


def bodies(case: Case) -> list[bytes]:
    """The text in every place of a request."""
    return [place.replace(b"%", case.text) for place in PLACES]
