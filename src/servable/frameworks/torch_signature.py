"""What a model of PyTorch takes and gives: from its file, from hints, from sample rows, from trying it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import torch

from servable.artifact.signature import Field, Signature, Task, is_table
from servable.errors import ArtifactUnsupported, DataError, SettingInvalid
from servable.frameworks.base import Hints
from servable.frameworks.scoring import LastStep, scoring
from servable.frameworks.torch_heads import Head, flat, plain
from servable.frameworks.torch_open import Argument, Opened, dtype_name, quiet
from servable.frameworks.torch_steps import Steps
from servable.tensors import NUMBERS, PREDICTION

#: An example of more values than this is not kept in the signature.
_LARGEST_EXAMPLE = 64
#: Size of a free axis while the model is tried, where nothing says better.
_FREE = 8
_DTYPES = frozenset(
    {
        "float16",
        "float32",
        "float64",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "bool",
    }
)

Options = dict[str, Any]


def derive(opened: Opened, sample: Any | None, hints: Hints) -> tuple[Signature, Options]:
    """The signature of a model, and how to feed it.

    Args:
        opened: the model; it is run a few times.
        sample: a ``pandas.DataFrame`` of rows that it accepts, or None.
        hints: what the caller knows.

    Raises:
        ArtifactUnsupported: it takes or gives what cannot be served.
        DataError: the sample does not fit it.
        SettingInvalid: a hint contradicts it, or one is needed.
    """
    fields, feeds, arguments = _inputs(opened, sample, hints)
    tried = _tried(opened, arguments)
    task, outputs, head = _answers(tried, hints)
    probabilities = head not in ("raw", "value")
    signature = Signature(
        task=task,
        inputs=fields,
        outputs=outputs,
        probabilities=probabilities,
        example={field.name: field.example for field in fields if field.example is not None},
    )
    options: Options = {"style": opened.style, "feeds": feeds, "head": head, "batch": tried.batch}
    if head == "raw":
        options["outputs"] = [field.name for field in outputs]
    return signature, options


# ---------------------------------------------------------------------- inputs


def _inputs(
    opened: Opened, sample: Any | None, hints: Hints
) -> tuple[tuple[Field, ...], list[Options], tuple[Argument, ...]]:
    """Fields, how they are fed, and the arguments with everything known."""
    arguments = opened.arguments
    if not arguments:
        raise ArtifactUnsupported(f"{opened.source.name} takes no tensors.")
    if hints.inputs and is_table(hints.inputs):
        return _table(opened, hints.inputs)
    if hints.inputs:
        return _hinted(opened, hints.inputs)
    if sample is not None and len(arguments) == 1:
        shape = arguments[0].shape
        if shape is None or len(shape) == 2:
            return _sampled(opened, sample)
    unknown = [each.name for each in arguments if each.shape is None]
    if unknown:
        raise SettingInvalid(
            f"{opened.source.name} does not say what {unknown[0]!r} looks like; give --sample rows.csv for a "
            'table, or --describe with [[inputs]] name = "' + unknown[0] + '", kind = "tensor", '
            'dtype = "float32", shape = [3, 32, 32].'
        )
    fields = tuple(_field(opened, each) for each in arguments)
    return (
        fields,
        [_feed(each.name, field.name, each.dtype) for each, field in _pairs(opened, fields)],
        (arguments),
    )


def _pairs(opened: Opened, fields: Sequence[Field]) -> list[tuple[Argument, Field]]:
    return list(zip(opened.arguments, fields, strict=True))


def _feed(argument: str, source: str, dtype: str) -> Options:
    return {"input": argument, "source": source, "dtype": dtype}


def _field(opened: Opened, argument: Argument) -> Field:
    dtype = "float32" if argument.dtype == "bfloat16" else argument.dtype
    if dtype not in _DTYPES:
        raise ArtifactUnsupported(
            f"{opened.source.name} takes {argument.name!r} as {dtype}, which is not served; use float32."
        )
    shape = tuple((argument.shape or (0,))[1:])
    if not argument.shape:
        raise ArtifactUnsupported(
            f"{opened.source.name} takes {argument.name!r} without rows; the first axis must be the rows."
        )
    example = None
    if argument.example is not None and argument.example[:1].numel() <= _LARGEST_EXAMPLE:
        example = plain(argument.example[:1]).numpy()[0].tolist()
    return Field(name=argument.name, kind="tensor", dtype=dtype, shape=shape, example=example)


def _hinted(
    opened: Opened, given: tuple[Field, ...]
) -> tuple[tuple[Field, ...], list[Options], tuple[Argument, ...]]:
    """One described field for each argument: by name where the names are the model's, else in order."""
    arguments = opened.arguments
    if len(given) != len(arguments) or any(not field.is_tensor for field in given):
        raise SettingInvalid(
            f"{opened.source.name} takes {len(arguments)} tensors "
            f"({', '.join(each.name for each in arguments)}), the description has {len(given)} inputs."
        )
    by_name = {field.name: field for field in given}
    if set(by_name) == {each.name for each in arguments}:
        given = tuple(by_name[each.name] for each in arguments)
    given = tuple(map(_completed, given, arguments))
    whole = []
    for argument, field in zip(arguments, given, strict=True):
        _check_agreement(opened, argument, field)
        dtype = argument.dtype or field.dtype
        whole.append(argument._replace(dtype=dtype, shape=argument.shape or (-1, *field.shape)))
    feeds = [_feed(each.name, field.name, each.dtype) for each, field in zip(whole, given, strict=True)]
    return given, feeds, tuple(whole)


def _completed(field: Field, argument: Argument) -> Field:
    """A described input with the dtype that the model says, where it has none, and the shape of its files."""
    said = "float32" if argument.dtype == "bfloat16" else argument.dtype
    if not field.takes_files or field.preparation is None:
        return msgspec.structs.replace(field, dtype=field.dtype or said)
    return msgspec.structs.replace(
        field,
        dtype=field.dtype or said or "float32",
        shape=field.shape or field.preparation.shape,
    )


def _check_agreement(opened: Opened, argument: Argument, field: Field) -> None:
    """Whether a described input can be the argument.

    Raises:
        SettingInvalid: it cannot.
    """
    if field.dtype not in _DTYPES:
        raise SettingInvalid(
            f"The described input {field.name!r} has the dtype {field.dtype!r}; use float32."
        )
    if argument.dtype not in ("", field.dtype, "bfloat16"):
        raise SettingInvalid(
            f"The described input {field.name!r} is {field.dtype}, and {opened.source.name} takes "
            f"{argument.dtype}."
        )
    if argument.shape is None:
        return
    sizes = argument.shape[1:]
    fits = len(sizes) == len(field.shape) and all(
        size in (-1, given) for size, given in zip(sizes, field.shape, strict=True)
    )
    if not fits:
        raise SettingInvalid(
            f"The described input {field.name!r} has the shape {list(field.shape)}, and {opened.source.name} "
            f"takes {list(sizes)} for each row."
        )


def _table(
    opened: Opened, given: tuple[Field, ...]
) -> tuple[tuple[Field, ...], list[Options], tuple[Argument, ...]]:
    """Described columns of numbers, which together are the one matrix that the model takes."""
    argument = opened.arguments[0]
    if len(opened.arguments) != 1 or any(field.array != NUMBERS for field in given):
        raise SettingInvalid(
            f"{opened.source.name} can take a table only as one matrix of numbers; describe tensors instead."
        )
    shape = argument.shape or (-1, len(given))
    if len(shape) != 2 or shape[1] not in (-1, len(given)):
        raise SettingInvalid(
            f"{opened.source.name} takes {list(shape[1:])} for each row, the description has {len(given)} "
            "columns."
        )
    dtype = argument.dtype or "float32"
    return given, [_feed(argument.name, NUMBERS, dtype)], (argument._replace(dtype=dtype, shape=shape),)


def _sampled(opened: Opened, sample: Any) -> tuple[tuple[Field, ...], list[Options], tuple[Argument, ...]]:
    """The sample's columns, which together are the one matrix that the model takes.

    Raises:
        DataError: a column holds no numbers.
    """
    fields = []
    for name in sample.columns:
        present = sample[name].dropna()
        if present.dtype.kind not in "iufb":
            raise DataError(f"The column {name!r} of the sample holds no numbers, which the model takes.")
        first = present.iloc[0].item() if len(present) else 0.0
        fields.append(
            Field(
                name=str(name),
                kind="number",
                dtype="float64",
                minimum=float(present.min()) if len(present) else None,
                maximum=float(present.max()) if len(present) else None,
                example=float(first),
            )
        )
    return _table(opened, tuple(fields))


# ---------------------------------------------------------------------- outputs


class _Tried(NamedTuple):
    """What came of running the model.

    Attributes:
        names: of its outputs.
        dtypes: of each, numpy's.
        shapes: of each without the rows; -1 where it follows an input.
        batch: rows that it takes at once; 0 for any number.
        last: what it does last to its first output.
    """

    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    batch: int
    last: LastStep


def made_up(argument: Argument, rows: int, *, longer: int = 0) -> torch.Tensor:
    """Rows to try a model with: those that it was exported with, else zeros."""
    shape = (argument.shape or (-1,))[1:]
    example = argument.example
    if example is not None and not longer and example.shape[0]:
        return example[:1].expand(rows, *example.shape[1:]).clone()
    sizes = [_FREE if size < 0 else size for size in shape]
    if example is not None:
        sizes = list(example.shape[1:])
    sizes = [held + longer if size < 0 else held for held, size in zip(sizes, shape, strict=True)]
    return torch.zeros((rows, *sizes), dtype=getattr(torch, argument.dtype))


def _tried(opened: Opened, arguments: tuple[Argument, ...]) -> _Tried:
    """Run the model on made-up rows.

    Raises:
        ArtifactUnsupported: it raises, or what it gives does not have its rows on the first axis.
    """
    fixed = {each.shape[0] for each in arguments if each.shape and each.shape[0] > 0}
    if len(fixed) > 1:
        raise ArtifactUnsupported(
            f"{opened.source.name} takes arguments with {' and '.join(map(str, sorted(fixed)))} rows; the "
            "first axis of each must be the same rows."
        )
    batch = fixed.pop() if fixed else 0
    rows = batch or 2
    with Steps() as steps:
        first = _run(opened, arguments, rows)
    if not first or any(each.dim() < 1 or each.shape[0] != rows for each in first):
        given = ", ".join(str(list(each.shape)) for each in first) or "nothing"
        raise ArtifactUnsupported(
            f"{opened.source.name} answers {rows} rows with {given}; the first axis of every output must be "
            "the rows."
        )
    shapes = [tuple(each.shape[1:]) for each in first]
    if any(size < 0 for each in arguments for size in (each.shape or ())[1:]):
        shapes = _moving(opened, arguments, rows, shapes)
    default = ("output",) if len(first) == 1 else tuple(f"output_{place}" for place in range(len(first)))
    names = opened.names if len(opened.names) == len(first) else default
    dtypes = tuple(dtype_name(plain(each).dtype) for each in first)
    return _Tried(names, dtypes, tuple(shapes), batch, steps.last(first[0]))


def _moving(
    opened: Opened, arguments: tuple[Argument, ...], rows: int, shapes: list[tuple[int, ...]]
) -> list[tuple[int, ...]]:
    """Shapes with -1 where an output follows a free axis of an input."""
    try:
        second = _run(opened, arguments, rows, longer=1)
    except ArtifactUnsupported:
        return shapes
    pairs = zip(shapes, (tuple(each.shape[1:]) for each in second), strict=True)
    return [
        tuple(a if a == b else -1 for a, b in zip(one, other, strict=True)) if len(one) == len(other) else one
        for one, other in pairs
    ]


def _run(
    opened: Opened, arguments: tuple[Argument, ...], rows: int, *, longer: int = 0
) -> list[torch.Tensor]:
    given = [made_up(each, rows, longer=longer) for each in arguments]
    try:
        with torch.inference_mode(), quiet():
            return flat(opened.module(*given))
    except Exception as foreign:  # Whatever the library raises becomes one sentence.
        told = (str(foreign).strip().splitlines() or [""])[0][:200].rstrip(".")
        shapes = ", ".join(f"{list(each.shape)} {dtype_name(each.dtype)}" for each in given)
        raise ArtifactUnsupported(
            f"{opened.source.name} does not answer made-up rows of {shapes} "
            f"({type(foreign).__name__}: {told})."
        ) from foreign


def _answers(tried: _Tried, hints: Hints) -> tuple[Task, tuple[Field, ...], Head]:
    """Task, output fields, and what becomes of the raw outputs.

    Raises:
        SettingInvalid: the labels or the task do not fit what the model gives.
    """
    single = len(tried.names) == 1 and tried.dtypes[0].startswith("float")
    shape = tried.shapes[0]
    one = shape in ((), (1,))
    if hints.labels or hints.task == "classification":
        return _classifier(tried, hints, single)
    if single and (hints.task == "regression" or (one and hints.task is None)):
        if len(shape) > 1:
            raise SettingInvalid(f"The model gives {list(shape)} for each row, which is no regression.")
        answer = Field(name=PREDICTION, kind="number", dtype="float64", shape=() if one else shape)
        return "regression", (answer,), "value"
    if hints.task not in (None, "transform"):
        raise SettingInvalid(f"What this model gives is no {hints.task}; leave task out, or say transform.")
    fields = tuple(
        Field(name=name, kind="tensor", dtype=dtype, shape=each)
        for name, dtype, each in zip(tried.names, tried.dtypes, tried.shapes, strict=True)
    )
    return "transform", fields, "raw"


def _classifier(tried: _Tried, hints: Hints, single: bool) -> tuple[Task, tuple[Field, ...], Head]:
    if not single:
        pairs = zip(tried.names, tried.shapes, strict=True)
        given = ", ".join(f"{name} {list(shape)}" for name, shape in pairs)
        raise SettingInvalid(
            f"A classifier needs one output of scores, and the model gives {given} a row; leave labels "
            "out, or export the scores alone."
        )
    found = scoring(tried.shapes[0], hints, tried.last)
    if found.single:
        return "classification", (found.answer,), "logit" if found.logits else "probability"
    return "classification", (found.answer,), "logits" if found.logits else "probabilities"
