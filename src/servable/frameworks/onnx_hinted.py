"""What a person says about an ONNX model, applied to what the model itself says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from servable.artifact.signature import Field, Signature
from servable.errors import SettingInvalid
from servable.frameworks.base import Hints
from servable.frameworks.hinted import joined, label_field
from servable.tensors import PREDICTION, PROBABILITIES

Options = dict[str, Any]


def applied(
    signature: Signature, options: Options, outputs: Sequence[Field], path: Path, hints: Hints
) -> tuple[Signature, Options]:
    """The signature and the options with the hints.

    Args:
        signature: as the model says it.
        options: how to feed it and read it.
        outputs: its raw outputs, without the row axis.
        path: its file, read for the operator that gives the scores when the hints do not say.
        hints: inputs by name or order, labels, task, and whether scores are logits.

    Raises:
        SettingInvalid: a hint contradicts the model.
    """
    if hints.inputs:
        signature, options = _with_inputs(signature, options, hints)
    if hints.labels:
        signature, options = _with_labels(signature, options, outputs, path, hints)
    if hints.task is not None and hints.task != signature.task:
        raise SettingInvalid(
            f"The description calls the model {hints.task} and its outputs are those of {signature.task}; "
            "a classifier needs labels, a regression one number a row."
        )
    return signature, options


def _with_inputs(signature: Signature, options: Options, hints: Hints) -> tuple[Signature, Options]:
    if not all(field.is_tensor for field in signature.inputs):
        if any(field.preparation is not None for field in hints.inputs):
            raise SettingInvalid("The model takes the columns of a table, which no file becomes.")
        return _with_columns(signature, hints), options
    fields, feeds = [], []
    for each, feed in zip(joined(signature.inputs, hints), options["feeds"], strict=True):
        made = {**feed, "source": each.field.name}
        if each.reshaped is not None:
            made["shape"] = [-1, *each.reshaped]
            made["dtype"] = each.own.dtype
        fields.append(each.field)
        feeds.append(made)
    names = {field.name for field in fields}
    if len(names) < len(fields):
        raise SettingInvalid("The description gives two inputs the same name.")
    example = {field.name: field.example for field in fields if field.example is not None}
    changed = msgspec.structs.replace(signature, inputs=tuple(fields), example=example)
    return changed, {**options, "feeds": feeds}


def _with_columns(signature: Signature, hints: Hints) -> Signature:
    """Columns described by name keep their place and their dtype."""
    said = {field.name: field for field in hints.inputs}
    strange = sorted(said.keys() - {field.name for field in signature.inputs})
    if strange:
        raise SettingInvalid(f"The model takes no column {', '.join(strange)}; the description names one.")
    fields = tuple(
        field
        if field.name not in said
        else msgspec.structs.replace(said[field.name], dtype=said[field.name].dtype or field.dtype)
        for field in signature.inputs
    )
    wrong = [new.name for old, new in zip(signature.inputs, fields, strict=True) if old.array != new.array]
    if wrong:
        raise SettingInvalid(f"The description gives {wrong[0]} another dtype than the model takes.")
    return msgspec.structs.replace(signature, inputs=fields)


def _with_labels(
    signature: Signature, options: Options, outputs: Sequence[Field], path: Path, hints: Hints
) -> tuple[Signature, Options]:
    labels = hints.labels
    if signature.task == "classification":
        if len(signature.classes) != len(labels):
            raise SettingInvalid(
                f"{len(labels)} labels were given and the model has {len(signature.classes)} classes."
            )
        return msgspec.structs.replace(signature, outputs=(label_field(labels),)), options
    scores, single = _scores(outputs, len(labels))
    kind = hints.scores or _kind_of_scores(path, scores.name, single)
    spec = _single(scores.name, kind) if single else _several(scores.name, kind)
    changed = msgspec.structs.replace(
        signature,
        task="classification",
        outputs=(label_field(labels),),
        probabilities=PROBABILITIES in spec,
    )
    return changed, {**options, "outputs": spec}


def _scores(outputs: Sequence[Field], count: int) -> tuple[Field, bool]:
    """The output with a score for each label, and whether it is a single one for the second of two."""
    floats = [field for field in outputs if field.dtype.startswith("float")]
    fitting = [field for field in floats if len(field.shape) == 1 and field.shape[0] in (count, -1)]
    if fitting:
        exact = [field for field in fitting if field.shape[0] == count]
        return (exact or fitting)[0], False
    one = [field for field in floats if field.shape in ((), (1,))]
    if count == 2 and one:
        return one[0], True
    given = ", ".join(f"{field.name} of {list(field.shape)}" for field in outputs)
    raise SettingInvalid(f"{count} labels were given and no output has as many scores a row ({given}).")


def _several(name: str, kind: str) -> Options:
    spec: Options = {PREDICTION: {"output": name, "form": "argmax"}}
    if kind:
        spec[PROBABILITIES] = {"output": name, "form": "softmax" if kind == "logits" else "plain"}
    return spec


def _single(name: str, kind: str) -> Options:
    if not kind:
        raise SettingInvalid(
            f"The output {name} is one number for two labels; say scores = 'probabilities' or 'logits' "
            "in the description."
        )
    logits = kind == "logits"
    return {
        PREDICTION: {"output": name, "form": "second", "above": 0.0 if logits else 0.5},
        PROBABILITIES: {"output": name, "form": "sigmoid" if logits else "positive"},
    }


def _kind_of_scores(path: Path, output: str, single: bool) -> str:
    """``probabilities`` when the graph's last operator makes shares of one; empty when nobody knows."""
    try:
        # A server of compiled models has no onnx; taking a model in happens where it is installed.
        import onnx
    except ModuleNotFoundError:
        return ""
    graph = onnx.load(path, load_external_data=False).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    sources = {name: node.input[0] for node in graph.node for name in node.output if node.input}
    name = output
    while makers.get(name) in ("Identity", "Cast", "Reshape", "Squeeze", "Flatten"):
        name = sources[name]
    return "probabilities" if makers.get(name) == ("Sigmoid" if single else "Softmax") else ""
