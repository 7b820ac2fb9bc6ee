"""The content types of the native addresses: the same rows give the same arrays in each of them."""

import builtins
import io
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols.content import (
    BYTES,
    FORM_HEAD,
    FREE,
    ROWS,
    TABLE,
    TENSOR,
    codec,
    equal,
    fields,
    file,
    form,
    in_all_types,
    records,
    stream,
    tensors_in_all_types,
)
from servable.errors import (
    InputError,
    MediaTypeUnsupported,
    NotAcceptable,
    RequestInvalid,
    RequestMalformed,
    RequestTooLarge,
)
from servable.protocols.answer_forms import (
    ALIASES,
    ARROW,
    CSV,
    EVENTS,
    FORMS,
    LINES,
    MSGPACK,
    NPY,
    PARQUET,
    FormedCodec,
)
from servable.protocols.base import CodecLimits
from servable.protocols.codecs import AUDIO, FORM, IMAGE, JSON, RAW, Reads, canonical, read_types
from servable.tensors import PREDICTION, PROBABILITIES, Response
from servable.testing import check_codec
from thoroughness import examples

ANSWER = Response(
    {PREDICTION: np.array([1, 0]), PROBABILITIES: np.array([[0.25, 0.75], [0.5, 0.5]])}, 2, "id", "m", 3
)
FLOATS = Response({"y": np.array([[1.5, 2.0], [0.0, -1.0]], np.float32)}, 2, "id", "m", 3)
INVALID: dict[str, list[bytes]] = {
    LINES: [b"[1]", b'{"age": 1}\n[1,"pro",true,null,null,1]', b'[1,"gold",true,null,null,1]'],
    CSV: [b"1,pro\n", b"age,plan,member\n1,pro,true\n", records([{**ROWS[0], "plan": "gold"}]),
          records(ROWS) + b"1,2\n"],
    ARROW: [stream(pa.Table.from_pylist([{**ROWS[0], "plan": "gold"}])), stream(pa.table({"age": [1.0]})),
            stream(pa.Table.from_pylist(ROWS).slice(0, 0))],
    PARQUET: [file(pa.Table.from_pylist([{**ROWS[0], "age": "old"}])), file(pa.table({"age": [1.0]}))],
    MSGPACK: [msgspec.msgpack.encode(body) for body in (
        {"inputs": []}, {}, {"inputs": 3}, {"input": [1]}, {"rows": []}, {"input": [], "inputs": []},
        {"inputs": [{**ROWS[0], "age": "old"}]})],
}  # fmt: skip


@pytest.mark.parametrize("media_type", INVALID)
def test_conformance(media_type: str) -> None:
    good = dict.fromkeys(in_all_types(ROWS)[media_type], 2)
    check_codec(codec(TABLE, media_type), good=good, invalid=INVALID[media_type], response=ANSWER)


def test_conformance_of_files() -> None:
    response = Response({PREDICTION: np.array([1.5])}, 1, "id", "m", 1, True)
    good = {b"\x89PNG": 1, b"x": 1}
    made = codec(BYTES, IMAGE)
    for body, rows in good.items():
        assert made.decode(body, "r").rows == rows
        assert made.decode(body, "r").arrays["file"].tolist() == [list(body)]
    with pytest.raises(RequestInvalid):
        made.decode(b"", "r")
    assert b"1.5" in made.encode(response)


@pytest.mark.parametrize("form_name", FORMS)
def test_conformance_of_answers(form_name: str) -> None:
    class Wishing(FormedCodec):
        def decode(self, body: Any, request_id: str, head: Any = None) -> Any:
            return super().decode(body, request_id, {b"accept": form_name.encode()})

    formed = Wishing(codec(TABLE, JSON), TABLE)
    good = dict.fromkeys(in_all_types(ROWS)[JSON], 2)
    check_codec(formed, good=good, invalid=[b'{"input": [1]}'], response=ANSWER)


@pytest.mark.parametrize("media_type", in_all_types(ROWS))
def test_the_same_rows_give_the_same_arrays(media_type: str) -> None:
    expected = codec(TABLE, JSON).decode(in_all_types(ROWS)[JSON][0], "r").arrays
    for body in in_all_types(ROWS)[media_type]:
        found = codec(TABLE, media_type).decode(body, "r")
        assert (found.rows, found.single) == (2, False)
        assert equal(found.arrays, expected)


@pytest.mark.parametrize("media_type", tensors_in_all_types())
def test_the_same_tensors_give_the_same_arrays(media_type: str) -> None:
    bodies = tensors_in_all_types()
    expected = codec(TENSOR, JSON).decode(bodies[JSON], "r").arrays
    assert equal(codec(TENSOR, media_type).decode(bodies[media_type], "r", FORM_HEAD).arrays, expected)


# Words that CSV reads as missing values are left out, and so is what no reader of lines keeps apart.
words = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1, max_size=12).filter(
    lambda text: text.strip() == text and text.lower() not in ("na", "n/a", "#n/a", "nan", "null", "<na>")
)
numbers = st.floats(-1e12, 1e12)
rows = st.fixed_dictionaries(
    {
        "age": st.none() | numbers,
        "plan": st.sampled_from(["basic", "pro"]),
        "member": st.booleans(),
        "since": st.none() | st.datetimes().map(lambda moment: moment.replace(microsecond=0).isoformat()),
        "note, long": st.none() | words,
        "visits": st.integers(-(2**53), 2**53),
    }
)


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=st.lists(rows, min_size=1, max_size=4))
def test_any_rows_give_the_same_arrays(drawn: list[dict[str, Any]]) -> None:
    drawn = [{name: row[name] for name in ROWS[0]} for row in drawn]
    bodies = in_all_types(drawn)
    expected = codec(TABLE, JSON).decode(bodies[JSON][0], "r").arrays
    for media_type, several in bodies.items():
        made = codec(TABLE, media_type)
        for body in several:
            assert equal(made.decode(body, "r").arrays, expected), (media_type, body)
    one = codec(TABLE, JSON).decode(msgspec.json.encode({"input": drawn[0]}), "r")
    for media_type, body in (
        (MSGPACK, msgspec.msgpack.encode({"input": drawn[0]})),
        (FORM, fields(drawn[0])),
    ):
        found = codec(TABLE, media_type).decode(body, "r", FORM_HEAD)
        assert found.single
        assert equal(found.arrays, one.arrays)


def answered(form_name: str, response: Response = ANSWER, signature: Any = TABLE, body: bytes = b"") -> bytes:
    """The body of an answer in one form."""
    formed = FormedCodec(codec(signature, JSON), signature)
    body = body or in_all_types(ROWS)[JSON][0]
    wish = formed.decode(body, "id", {b"accept": form_name.encode()}).wish
    encoded = formed.encode(msgspec.structs.replace(response, wish=wish))
    assert encoded.media_type == form_name
    assert encoded.headers == ((b"x-model-name", b"m"), (b"x-model-version", b"3"))
    return encoded.body


def test_the_same_answers_in_every_form() -> None:
    expected = msgspec.json.decode(answered(JSON))
    assert expected["predictions"] == ["yes", "no"]
    assert msgspec.msgpack.decode(answered(MSGPACK)) == expected
    lines = [msgspec.json.decode(line) for line in answered(LINES).splitlines()]
    assert [line["prediction"] for line in lines] == expected["predictions"]
    assert [line["probabilities"] for line in lines] == expected["probabilities"]
    *events, end, _ = answered(EVENTS).split(b"\n\n")
    assert [msgspec.json.decode(event.removeprefix(b"data: ")) for event in events] == lines
    assert end.startswith(b"event: end\ndata: ")
    assert msgspec.json.decode(end.partition(b"data: ")[2]) == {
        "model": "m", "version": 3, "request_id": "id", "rows": 2,
    }  # fmt: skip
    columns = {"prediction": ["yes", "no"], "probability_no": [0.25, 0.5], "probability_yes": [0.75, 0.5]}
    assert pa.ipc.open_stream(answered(ARROW)).read_all().to_pydict() == columns
    assert pa.parquet.read_table(io.BytesIO(answered(PARQUET))).to_pydict() == columns
    assert answered(CSV).replace(b'"', b"").splitlines() == [
        b"prediction,probability_no,probability_yes", b"yes,0.25,0.75", b"no,0.5,0.5",
    ]  # fmt: skip
    assert np.load(io.BytesIO(answered(NPY))).tolist() == ["yes", "no"]


def test_outputs_under_their_own_names() -> None:
    body = tensors_in_all_types()[JSON]
    assert np.load(io.BytesIO(answered(NPY, FLOATS, TENSOR, body))).tolist() == [[1.5, 2.0], [0.0, -1.0]]
    assert answered(CSV, FLOATS, TENSOR, body).splitlines()[0] == b'"y_0","y_1"'
    assert pa.ipc.open_stream(answered(ARROW, FLOATS, TENSOR, body)).read_all().to_pydict() == {
        "y": [[1.5, 2.0], [0.0, -1.0]]
    }
    several = msgspec.structs.replace(TENSOR, outputs=TENSOR.outputs * 2)
    with pytest.raises(NotAcceptable, match="several arrays"):
        FormedCodec(codec(several, JSON), several).decode(body, "r", {b"accept": NPY.encode()})


def test_without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def importing(name: str, *more: Any) -> Any:
        if name.partition(".")[0] == "pyarrow":
            raise ModuleNotFoundError(name)
        return real(name, *more)

    bodies = in_all_types(ROWS)
    monkeypatch.setattr(builtins, "__import__", importing)
    for media_type in (ARROW, PARQUET):
        with pytest.raises(MediaTypeUnsupported, match=r"servable\[columns\]"):
            codec(TABLE, media_type).decode(bodies[media_type][0], "r")
    for media_type in (CSV, ARROW, PARQUET):
        with pytest.raises(NotAcceptable, match=r"servable\[columns\]"):
            answered(media_type)
    for media_type in (LINES, CSV):
        assert codec(TABLE, media_type).decode(bodies[media_type][0], "r").rows == 2
    long = records(ROWS * 1_000)
    assert codec(TABLE, CSV).decode(long, "r").rows == 2_000


# ---------------------------------------------------------------------- what each type has of its own


def problem(media_type: str, body: bytes, signature: Any = TABLE, head: Any = None) -> str:
    """The first problem of a body that does not fit."""
    with pytest.raises(RequestInvalid) as raised:
        codec(signature, media_type).decode(body, "r", head or FORM_HEAD)
    return str(raised.value.problems[0])


def test_csv_tells_what_is_wrong() -> None:
    assert "inputs[1][1]" in problem(CSV, records([ROWS[0], {**ROWS[1], "plan": "gold"}]))
    misspelled = b'age,plann,member,since,"note, long",visits\n1,pro,true,,,1\n'
    assert 'did you mean "plan"' in problem(CSV, misspelled)
    assert "6 values (age, plan" in problem(CSV, b"1,pro\n")
    assert "each column once" in problem(CSV, b"age,age,plan,member,visits\n1,1,pro,true,2\n")
    assert problem(CSV, b"age,plan,member,visits\n").startswith("inputs: expected a list of at least one row")
    assert "expected 4 values, got 2" in problem(CSV, b"age,plan,member,visits\n1,pro,true,2\n1,pro\n")
    with pytest.raises(RequestMalformed, match="empty"):
        codec(TABLE, CSV).decode(b"\r\n\n", "r")


def test_csv_says_whether_it_has_a_header() -> None:
    head = {b"content-type": b'text/csv; charset="UTF-8"; header=absent'}
    names = msgspec.structs.replace(
        TABLE, inputs=tuple(msgspec.structs.replace(field, name=name) for field, name in zip(
            TABLE.inputs[1:2] + TABLE.inputs[4:5], ("pro", "x"), strict=True)))  # fmt: skip
    assert codec(names, CSV).decode(b"pro,x\n", "r", head).arrays["strings"].tolist() == [["pro", "x"]]
    with pytest.raises(RequestInvalid, match="at least one row"):
        codec(names, CSV).decode(b"pro,x\n", "r")
    with pytest.raises(MediaTypeUnsupported, match="UTF-8"):
        codec(names, CSV).decode(b"pro,x\n", "r", {b"content-type": b"text/csv;charset=latin-1"})


def test_csv_of_a_tensor_spreads_its_numbers() -> None:
    for body in (b"1,2,3\n4,5,6\n", b"a,b,c\n1,2,3\n4,5,6\n"):
        assert codec(FREE, CSV).decode(body, "r").arrays["x"].tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    "body",
    [
        b'age,plan\n"1',
        b"\xff\xfe1,2",
        b'"' + b"a" * 200_000 + b'"\n',
        b"age,plan,member,visits\n\xff,pro,1,1\n",
    ],
)
def test_csv_that_is_none(body: bytes) -> None:
    with pytest.raises(RequestMalformed, match="RFC 4180"):
        codec(TABLE, CSV).decode(body, "r")


def test_messagepack_takes_what_json_takes_and_its_own_dates() -> None:
    from datetime import UTC, datetime

    row = {**ROWS[0], "since": datetime(2026, 1, 31, 10, tzinfo=UTC)}
    expected = codec(TABLE, JSON).decode(msgspec.json.encode({"input": ROWS[0]}), "r")
    found = codec(TABLE, MSGPACK).decode(msgspec.msgpack.encode({"input": row}), "r")
    assert equal(found.arrays, expected.arrays)
    for value in (b"raw", msgspec.msgpack.Ext(5, b"x"), {1: 2}):
        with pytest.raises(RequestMalformed, match="not read"):
            codec(TABLE, MSGPACK).decode(msgspec.msgpack.encode({"input": {"age": value}}), "r")
    assert "2000000 bytes" not in problem(MSGPACK, msgspec.msgpack.encode({"input": ["x"] * 3}))
    assert "bytes of another" in problem(MSGPACK, msgspec.msgpack.encode({"input": ["x"] * 2_000_000}))


def test_lines_name_the_line() -> None:
    made = codec(TABLE, LINES)
    with pytest.raises(RequestMalformed, match="Line 3 is not JSON"):
        made.decode(b'[1,"pro",true,null,null,1]\n\nnope\n', "r")
    # A value does not go on in the next line.
    with pytest.raises(RequestMalformed, match="Line 1"):
        made.decode(b'[1,"pro",true,\nnull,null,1]', "r")
    with pytest.raises(RequestMalformed, match="Line 1 is nested more than 64"):
        made.decode(b"[" * 100 + b"]" * 100, "r")
    assert problem(LINES, b" \n\n") == "inputs: expected at least one line with a row, got no line"


def test_a_column_may_be_called_input() -> None:
    named = msgspec.structs.replace(FREE, inputs=(msgspec.structs.replace(FREE.inputs[0], name="input"),))
    found = codec(named, LINES).decode(b'{"input": [1, 2]}\n[3, 4]', "r")
    assert found.arrays["input"].tolist() == [[1, 2], [3, 4]]


def test_forms_hold_fields_or_one_file() -> None:
    row = form([("x", None, None, b"[[1, 2, 3], [4, 5, 6]]")])
    assert codec(TENSOR, FORM).decode(row, "r", FORM_HEAD).arrays["x"].shape == (1, 2, 3)
    for filename, media_type, content in (
        ("a.csv", None, records(ROWS)),
        ("a.bin", "text/csv", records(ROWS)),
        ("a.parquet", "application/octet-stream", in_all_types(ROWS)[PARQUET][0]),
        ("a", "application/json", in_all_types(ROWS)[JSON][0]),
    ):
        body = form([("file", filename, media_type, content)])
        assert codec(TABLE, FORM).decode(body, "r", FORM_HEAD).rows == 2
    assert "input.age: expected a number or null" in problem(FORM, fields({**ROWS[0], "age": "old"}))
    assert "one field of this name" in problem(FORM, form([("age", None, None, b"1")] * 2))
    assert "either one file or fields" in problem(
        FORM, form([("f", "a.csv", None, b""), ("age", None, None, b"1")])
    )
    with pytest.raises(MediaTypeUnsupported, match="image/"):
        codec(BYTES, FORM).decode(form([("f", "a.zip", "application/zip", b"PK")]), "r", FORM_HEAD)
    found = codec(BYTES, FORM).decode(form([("f", "a.png", "image/png", b"PNG")]), "r", FORM_HEAD)
    assert bytes(found.arrays["file"]) == b"PNG"


@pytest.mark.parametrize(
    "content_type",
    [
        b"",
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=" + b"x" * 71,
        b"multipart/form-data; boundary=a\xff",
    ],
)
def test_boundaries_that_are_none(content_type: bytes) -> None:
    with pytest.raises(RequestMalformed, match="boundary of 1 to 70"):
        codec(TABLE, FORM).decode(fields(ROWS[0]), "r", {b"content-type": content_type})


def test_limits_of_forms() -> None:
    with pytest.raises(RequestTooLarge, match="parts"):
        codec(TABLE, FORM).decode(form([(f"c{n}", None, None, b"") for n in range(50)]), "r", FORM_HEAD)
    for part in (b"X: " + b"y" * 5000, b"\r\n".join(b"X%d: y" % n for n in range(20))):
        body = b"--limit\r\n" + part + b"\r\n\r\nx\r\n--limit--\r\n"
        with pytest.raises(RequestMalformed):
            codec(TABLE, FORM).decode(body, "r", FORM_HEAD)
    with pytest.raises(MediaTypeUnsupported, match="form within a form"):
        codec(TABLE, FORM).decode(form([("f", "a", "multipart/form-data", b"")]), "r", FORM_HEAD)


def test_what_is_read_for_whom() -> None:
    common = (LINES, CSV, ARROW, PARQUET, MSGPACK, FORM)
    assert read_types(TABLE) == (JSON, *common)
    assert read_types(TENSOR) == (JSON, RAW, NPY, *common)
    assert read_types(BYTES) == (JSON, RAW, NPY, *common, IMAGE, AUDIO)
    assert canonical("image/png") == IMAGE
    assert {canonical(name) for name in ALIASES} == set(ALIASES.values())
    with pytest.raises(MediaTypeUnsupported, match=r"takes 6 inputs \(age, plan, member, since, ...\)"):
        Reads(AUDIO)(TABLE, CodecLimits())
    with pytest.raises(MediaTypeUnsupported, match=r"none of application/json, .*multipart/form-data"):
        Reads("application/xml")(TABLE, CodecLimits())
    for media_type in read_types(TABLE):
        assert isinstance(codec(TABLE, media_type).encode(ANSWER), bytes)


def test_too_many_rows_in_each_type() -> None:
    limits = CodecLimits(max_rows=1)
    for media_type, bodies in in_all_types(ROWS).items():
        for body in bodies:
            with pytest.raises(RequestTooLarge):
                codec(TABLE, media_type, limits).decode(body, "r")


def test_input_errors_have_words_of_one_sentence() -> None:
    for media_type, bodies in INVALID.items():
        for body in bodies:
            with pytest.raises(InputError) as raised:
                codec(TABLE, media_type).decode(body, "r")
            assert "Traceback" not in raised.value.message
