"""Arrays as bytes and back: equal in every bit, and nothing hostile becomes an array."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from servable.errors import ModelDied, ModelFailed
from servable.runtime.packing import ALIGNMENT, Packed, unpack

DTYPES = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes(endianness="?")
    | hnp.unsigned_integer_dtypes(endianness="?")
    | hnp.floating_dtypes(endianness="?")
    | hnp.complex_number_dtypes()
    | hnp.datetime64_dtypes()
    | hnp.timedelta64_dtypes()
)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
TEXTS = hnp.arrays(np.dtype(object), SHAPES, elements=st.text(st.characters(), max_size=8), fill=st.nothing())
ARRAYS = st.dictionaries(st.text(max_size=10), hnp.arrays(DTYPES, SHAPES) | TEXTS, max_size=4)


def there_and_back(arrays: dict[str, Any], *, area: bool) -> dict[str, Any]:
    packed = Packed(arrays)
    if not area:
        return unpack(packed.meta, packed.payload())
    memory = bytearray(packed.size + 13)
    packed.write(memoryview(memory))
    return unpack(packed.meta, memoryview(memory).toreadonly(), copy=True)


@given(ARRAYS, st.booleans())
@example({"x": np.zeros((0, 4))}, True)
@example({"x": np.array([["a", ""], ["ß", "\U0001f600"]], dtype=object)}, False)
@example({"x": np.array(["\ud800"], dtype=object)}, False)
def test_arrays_come_back_equal_in_every_bit(arrays: dict[str, Any], area: bool) -> None:
    back = there_and_back(arrays, area=area)
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        assert back[name].shape == array.shape
        if array.dtype.kind == "O":
            assert back[name].tolist() == array.tolist()
        else:
            assert back[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("area", [False, True])
def test_strided_arrays_travel(area: bool) -> None:
    whole = np.arange(60.0).reshape(6, 10)
    arrays = {"columns": whole[:, 2:5], "back": whole[::-1, ::3], "turned": whole.T, "one": whole[3]}
    back = there_and_back(arrays, area=area)
    assert all(np.array_equal(back[name], array) for name, array in arrays.items())


def test_what_is_not_copied_is_read_only_and_aligned() -> None:
    arrays = {"small": np.ones(3, np.int8), "numbers": np.ones((3, 2))}
    packed = Packed(arrays)
    back = unpack(packed.meta, packed.payload())
    assert packed.size % ALIGNMENT == 0
    assert not back["numbers"].flags.writeable
    assert back["numbers"].flags.aligned
    assert back["numbers"].base is not None


def test_texts_of_fixed_length_become_texts() -> None:
    back = there_and_back({"label": np.array(["yes", "no"])}, area=False)["label"]
    assert back.dtype == object
    assert back.tolist() == ["yes", "no"]


@pytest.mark.parametrize(
    "array",
    [
        np.array(["a", None], dtype=object),
        np.array([b"raw"]),
        np.array([{}], dtype=object),
        np.zeros(2, dtype=[("a", "f8")]),
    ],
)
def test_what_is_neither_number_nor_text_does_not_travel(array: Any) -> None:
    with pytest.raises(ModelFailed, match="neither numbers nor texts"):
        Packed({"x": array})


def meta(*forms: Any) -> bytes:
    return msgspec.msgpack.encode(list(forms))


@pytest.mark.parametrize(
    "form",
    [
        ("x", "O", [1], 0, 8),
        ("x", "|O", [1], 0, 8),
        ("x", "|V8", [1], 0, 8),
        ("x", "<f8,<f8", [1], 0, 16),
        ("x", "<f3", [1], 0, 3),
        ("x", "<f8", [9], 0, 64),
        ("x", "<f8", [-1], 0, 8),
        ("x", "<f8", [-1, -8], 0, 64),
        ("x", "<f8", [2**62, 4], 0, 0),
        ("x", "<f8", [2**63], 0, 0),
        ("x", "<f8", [0, 2**63], 0, 0),
        ("x", "<f8", [0, 2**46, 2**46], 0, 0),
        ("x", "text", [0, 2**46, 2**46], 0, 0),
        ("x", "<f8", [1] * 40, 0, 8),
        ("x", "<f8", [8], 8, 64),
        ("x", "<f8", [1], -8, 8),
        ("x", "<f8", [1], 2**63, 8),
        ("x", "text", [100], 0, 64),
        ("x", "text", [1], 0, 64),
        ("x", "text", [2], 0, 10),
        ("x", "<f8", [1], 0),
        ("x", "<f8", [1], 0, 8, 1),
        (1, "<f8", [1], 0, 8),
        "x",
    ],
)
def test_a_hostile_form_is_one_clean_error(form: Any) -> None:
    with pytest.raises(ModelDied, match="cannot be trusted"):
        unpack(meta(form), b"\x01" + bytes(63))


def test_a_name_twice_is_refused() -> None:
    with pytest.raises(ModelDied, match="twice"):
        unpack(meta(("x", "<f8", [1], 0, 8), ("x", "<f8", [1], 0, 8)), bytes(8))


def test_texts_that_are_not_utf_8_are_refused() -> None:
    with pytest.raises(ModelDied, match="not UTF-8"):
        unpack(meta(("x", "text", [1], 0, 5)), b"\x01\0\0\0\xff")


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_noise_never_does_more_than_raise(noise: bytes, payload: bytes) -> None:
    try:
        unpack(noise, payload)
    except ModelDied:
        return


@given(ARRAYS, st.integers(0, 10**6), st.integers(0, 255))
def test_a_changed_list_never_does_more_than_raise(arrays: dict[str, Any], place: int, value: int) -> None:
    packed = Packed(arrays)
    changed = bytearray(packed.meta)
    changed[place % len(changed)] = value
    try:
        unpack(bytes(changed), packed.payload())
    except ModelDied:
        return
