"""Signatures of every form for which a client can be made, easy and nasty."""

from typing import Any

from hypothesis import strategies as st

from servable.artifact.signature import Field, Signature

NUMBER = Field(name="y", kind="number", dtype="float64")
TRAPS = (
    "class",
    "sepal length (cm)",
    "颜色",
    "colour",
    "Colour",
    "col-our",
    'a "quoted" name',
    "back\\slash",
    "__proto__",
    "__private",
    "str",
    "row",
    "new\nline",
    '"""',
    "*/",
    "${x}",
    "\x00",
    "ﬁ",
    "😀",
    "",
)

CREDIT = Signature(
    task="classification",
    inputs=(
        Field(name="age", kind="number", dtype="float64", minimum=17, maximum=90, example=40.0),
        Field(
            name="job", kind="category", dtype="str", values=("cook", "nurse"), unknown="refuse", missing=True
        ),
        Field(
            name="city", kind="category", dtype="str", values=("Oslo", "北京"), description="Where they live."
        ),
        Field(name="member", kind="boolean", dtype="bool"),
        Field(name="since", kind="date", dtype="datetime", missing=True),
        Field(name="grade", kind="category", dtype="int64", values=(1, 2), unknown="refuse"),
        Field(name="note", kind="text", dtype="str", missing=True),
    ),
    outputs=(Field(name="good", kind="category", dtype="int64", values=(0, 1)),),
    probabilities=True,
)
NASTY = Signature(
    task="classification",
    inputs=tuple(
        Field(
            name=name,
            kind="category",
            dtype="str",
            values=(name, "other"),
            unknown="refuse",
            description=name,
        )
        for name in TRAPS
    ),
    outputs=(Field(name='the "answer"\n', kind="category", dtype="str", values=TRAPS),),
    probabilities=True,
)
TRUTH = Signature(
    task="classification",
    inputs=(NUMBER,),
    outputs=(Field(name="fraud", kind="category", dtype="bool", values=(False, True)),),
    probabilities=True,
)
HALVES = Signature(
    task="classification",
    inputs=(Field(name="size", kind="category", dtype="float64", values=(0.5, 1.5), unknown="refuse"),),
    outputs=(Field(name="half", kind="category", dtype="float64", values=(0.5, 1.0)),),
    probabilities=True,
)
MANY_LABELS = Signature(
    task="classification",
    inputs=(NUMBER,),
    outputs=(Field(name="id", kind="category", dtype="int64", values=tuple(range(3000))),),
    probabilities=True,
)
NO_CHANCES = Signature(
    task="classification",
    inputs=(NUMBER,),
    outputs=(Field(name="kind", kind="category", dtype="str", values=("a", "b")),),
)
PRICE = Signature(task="regression", inputs=(NUMBER,), outputs=(NUMBER,))
TWO_PRICES = Signature(task="regression", inputs=(NUMBER,), outputs=(NUMBER, NUMBER))
GROUPS = Signature(
    task="clustering", inputs=(NUMBER,), outputs=(Field(name="cluster", kind="category", dtype="int64"),)
)
PICTURE = Signature(
    task="transform",
    inputs=(Field(name="pixels", kind="tensor", dtype="uint8", shape=(2, -1)),),
    outputs=(Field(name="scores", kind="tensor", dtype="float32", shape=(3,)),),
)
SEVERAL = Signature(
    task="transform",
    inputs=(
        Field(name="x", kind="tensor", dtype="float32", shape=(2,)),
        Field(name="words", kind="tensor", dtype="str", shape=(-1,)),
    ),
    outputs=(
        Field(name="class", kind="tensor", dtype="int64"),
        Field(name="all scores", kind="tensor", dtype="float32", shape=(2, 2)),
    ),
)
LARGE = Signature(
    task="regression",
    inputs=(Field(name="image", kind="tensor", dtype="float32", shape=(3, 64, 64)),),
    outputs=(NUMBER,),
)
NOTHING = Signature(task="regression", inputs=(), outputs=(NUMBER,))

ALL: dict[str, Signature] = {
    "credit": CREDIT,
    "nasty.names_v2": NASTY,
    "truth": TRUTH,
    "halves": HALVES,
    "many-labels": MANY_LABELS,
    "no-chances": NO_CHANCES,
    "price": PRICE,
    "two-prices": TWO_PRICES,
    "groups": GROUPS,
    "3d-picture": PICTURE,
    "several": SEVERAL,
    "large": LARGE,
    "nothing": NOTHING,
}

_NAMES = st.one_of(st.sampled_from(TRAPS), st.text(max_size=12))
_VALUES: dict[str, Any] = {
    "str": st.text(max_size=8),
    "int64": st.integers(-(2**60), 2**60),
    "float64": st.floats(allow_nan=False, allow_infinity=False),
    "bool": st.booleans(),
}


@st.composite
def fields(draw: Any, name: str) -> Field:
    kind = draw(st.sampled_from(("number", "category", "boolean", "date", "text", "tensor")))
    description, missing = draw(st.text(max_size=20)), draw(st.booleans())
    if kind == "tensor":
        dtype = draw(st.sampled_from(("float32", "int64", "uint8", "bool", "str")))
        shape = tuple(draw(st.lists(st.sampled_from((-1, 1, 2)), max_size=3)))
        return Field(name=name, kind=kind, dtype=dtype, shape=shape, description=description)
    if kind == "category":
        dtype = draw(st.sampled_from(("str", "int64", "float64")))
        values = tuple(draw(st.lists(_VALUES[dtype], max_size=5, unique=True)))
        unknown = draw(st.sampled_from(("accept", "refuse")))
        return Field(
            name=name,
            kind=kind,
            dtype=dtype,
            values=values,
            unknown=unknown,
            missing=missing,
            description=description,
        )
    dtype = {"number": "float64", "boolean": "bool", "date": "datetime", "text": "str"}[kind]
    return Field(name=name, kind=kind, dtype=dtype, missing=missing, description=description)


@st.composite
def signatures(draw: Any) -> Signature:
    names = draw(st.lists(_NAMES, max_size=6, unique=True))
    inputs = tuple(draw(fields(name)) for name in names)
    task = draw(st.sampled_from(("classification", "regression", "clustering", "transform")))
    if task == "classification":
        dtype = draw(st.sampled_from(tuple(_VALUES)))
        labels = tuple(draw(st.lists(_VALUES[dtype], min_size=1, max_size=5, unique=True)))
        answer = Field(name=draw(_NAMES), kind="category", dtype=dtype, values=labels)
        return Signature(task=task, inputs=inputs, outputs=(answer,), probabilities=draw(st.booleans()))
    if task == "transform":
        found = draw(st.lists(_NAMES, min_size=1, max_size=3, unique=True))
        outputs = tuple(Field(name=name, kind="tensor", dtype="float32", shape=(2,)) for name in found)
        return Signature(task=task, inputs=inputs, outputs=outputs)
    return Signature(task=task, inputs=inputs, outputs=(NUMBER,))
