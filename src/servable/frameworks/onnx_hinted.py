"""What a person says about an ONNX model, applied to what the model itself says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from servable.artifact.signature import Field, Signature
from servable.errors import SettingInvalid
from servable.frameworks.base import Hints
from servable.frameworks.hinted import joined
from servable.frameworks.scoring import LastStep, Scoring, label_field, scoring
from servable.tensors import PREDICTION, PROBABILITIES

Options = dict[str, Any]

#: Operators that leave scores what they are.
_PASSING = frozenset({"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})
_STEPS: dict[str, LastStep] = {"Softmax": "softmax", "Sigmoid": "sigmoid"}


class _End(NamedTuple):
    """How a graph ends.

    Attributes:
        network: whether it is a network for certain, whose scores are logits where nothing else is said.
        last: what it does last to the scores.
    """

    network: bool
    last: LastStep


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
    if hints.labels or (hints.task == "classification" and signature.task != "classification"):
        signature, options = _with_labels(signature, options, outputs, path, hints)
    if hints.task is not None and hints.task != signature.task:
        raise SettingInvalid(
            f"The description calls the model {hints.task} and its outputs are those of {signature.task}; "
            "a classifier needs scores, a regression one number a row."
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
    scores = _scores(outputs, len(labels))
    end = _end_of(path, scores.name)
    found = scoring(scores.shape, hints, end.last)
    known = bool(hints.scores or end.last or end.network)
    spec = _single(scores.name, found, known) if found.single else _several(scores.name, found, known)
    changed = msgspec.structs.replace(
        signature,
        task="classification",
        outputs=(found.answer,),
        probabilities=PROBABILITIES in spec,
    )
    return changed, {**options, "outputs": spec}


def _scores(outputs: Sequence[Field], count: int) -> Field:
    """The output whose scores fit so many labels best; any number of labels when ``count`` is 0."""
    floats = [field for field in outputs if field.dtype.startswith("float")]
    several = [field for field in floats if len(field.shape) == 1 and field.shape[0] != 1]
    exact = [field for field in several if count in (0, field.shape[0])]
    free = [field for field in several if field.shape[0] == -1]
    single = [field for field in floats if field.shape in ((), (1,)) and count in (0, 2)]
    fitting = exact or free or single
    if not fitting:
        given = ", ".join(f"{field.name} of {list(field.shape)}" for field in outputs)
        raise SettingInvalid(f"{count} labels were given and no output has as many scores a row ({given}).")
    return fitting[0]


def _several(name: str, found: Scoring, known: bool) -> Options:
    spec: Options = {PREDICTION: {"output": name, "form": "argmax"}}
    if known:
        spec[PROBABILITIES] = {"output": name, "form": "softmax" if found.logits else "plain"}
    return spec


def _single(name: str, found: Scoring, known: bool) -> Options:
    if not known:
        raise SettingInvalid(
            f"The output {name} is one number for two labels; say scores = 'probabilities' or 'logits' "
            "in the description."
        )
    return {
        PREDICTION: {"output": name, "form": "second", "above": 0.0 if found.logits else 0.5},
        PROBABILITIES: {"output": name, "form": "sigmoid" if found.logits else "positive"},
    }


def _end_of(path: Path, output: str) -> _End:
    """How the graph comes to an output.

    Operators of classical machine learning may give anything as scores, so a graph with them is no network.
    """
    try:
        # A server of compiled models has no onnx; taking a model in happens where it is installed.
        import onnx
    except ModuleNotFoundError:
        return _End(network=False, last="")
    nodes = onnx.load(path, load_external_data=False).graph.node
    makers = {name: node for node in nodes for name in node.output}
    maker = makers.get(output)
    while maker is not None and maker.op_type in _PASSING:
        maker = makers.get(maker.input[0])
    last = _STEPS.get(maker.op_type, "") if maker is not None else ""
    return _End(network=all(node.domain != "ai.onnx.ml" for node in nodes), last=last)
