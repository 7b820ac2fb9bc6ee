"""A fitted scikit-learn pipeline over texts as tokens, weights and a head: see ``frameworks.text_program``.

The model's weights are followed back through the steps to what counts tokens: what scales, selects or
projects columns is multiplied into them, unions and column choices part them. Columns that are no text are
left to the ONNX compiler, which adds their share of the scores.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from servable.artifact.signature import Field, Signature
from servable.frameworks.base import Trained
from servable.frameworks.text_program import REST_FILE, Bag, Bags, Compiled, Part, Program
from servable.optimization.columns import Source, View, places_of
from servable.optimization.convert import steps_of
from servable.optimization.encoders import join
from servable.optimization.graph import Graph, Unconvertible
from servable.optimization.steps import as_matrix, compile_step
from servable.optimization.text_bags import COUNTERS, bag_of, tokens_of
from servable.optimization.text_models import linear
from servable.tensors import STRINGS

Floats = NDArray[np.float64]

_SCALERS = ("StandardScaler", "MaxAbsScaler", "RobustScaler")
_PROJECTIONS = ("TruncatedSVD", "PCA")


class Share(NamedTuple):
    """A step that takes columns which are no text, with its weights ``[scores, width]``."""

    step: Any
    fields: tuple[Field, ...]
    weights: Floats


class Sum:
    """The parts of a sum in the making. ``bias`` is ``[scores]``."""

    def __init__(self, signature: Signature, style: str, bias: Floats) -> None:
        self.signature, self.style, self.bias = signature, style, bias
        self.parts: list[Part] = []
        self.arrays: dict[str, Floats] = {}
        self.shares: list[Share] = []

    def add(self, part: Part, weights: Floats, idf: Floats | None) -> None:
        """Add a part with its weights ``[scores, tokens]``; one without any weight is left out."""
        if not weights.any():
            return
        place = len(self.parts)
        self.parts.append(part)
        self.arrays[f"weights_{place}"] = np.ascontiguousarray(weights.T)
        if idf is not None:
            self.arrays[f"idf_{place}"] = np.asarray(idf, dtype=np.float64)

    def column_of(self, fields: Sequence[Field]) -> int:
        """The place among the packed texts of the one text column of a step."""
        if len(fields) != 1 or fields[0].array != STRINGS:
            raise Unconvertible("a vectorizer reads something other than one text column")
        known = [field.name for field in self.signature.packed(STRINGS)]
        return known.index(fields[0].name)


def compile_text(trained: Trained) -> Compiled:
    """Compile a trained text pipeline.

    Args:
        trained: a scikit-learn pipeline that counts tokens somewhere, with its signature.

    Raises:
        Unconvertible: a part has no such form; the text names it and says why.
    """
    signature = trained.signature
    *steps, model = steps_of(trained.model)
    found = linear(model)
    total = Sum(signature, str(trained.options.get("style", "canonical")), found.bias.copy())
    if found.weights is not None:
        spread(total, steps, found.weights, signature.inputs, binarize=found.binarize)
    graphs = {REST_FILE: _rest(total)} if total.shares else {}
    body = Bags(parts=tuple(total.parts), head=found.head, rest=bool(graphs))
    return Compiled(
        program=Program(signature=signature, body=body),
        arrays={"bias": total.bias, **total.arrays},
        graphs=graphs,
    )


def spread(
    total: Sum, steps: Sequence[Any], weights: Floats, fields: Sequence[Field], *, binarize: bool = False
) -> None:
    """Follow weights ``[scores, width]`` back through steps that read ``fields``, the last one first.

    Raises:
        Unconvertible: a step is not linear, or not known.
    """
    kept = [step for step in steps if not passes(step)]
    if not kept:
        total.shares.append(Share("passthrough", tuple(fields), weights))
        return
    *before, step = kept
    kind = type(step).__name__
    if kind in COUNTERS:
        if before:
            raise Unconvertible(f"{type(before[-1]).__name__} changes the text before it is counted")
        bag, weighting = bag_of(step, total.column_of(fields))
        part = weighting.part((bag,))
        total.add(_binary(part) if binarize else part, weights, None if binarize else weighting.idf)
    elif kind in ("TfidfTransformer", "Normalizer"):
        _together(total, before, step, weights, fields, binarize)
    elif kind == "FeatureUnion":
        _need_nothing_before(before, step)
        at = 0
        for name, inner in step.transformer_list:
            wide = width([inner])
            factor = (step.transformer_weights or {}).get(name, 1.0)
            if wide:
                spread(total, inside(inner), factor * weights[:, at : at + wide], fields, binarize=binarize)
            at += wide
    elif kind == "ColumnTransformer":
        _need_nothing_before(before, step)
        _parted(total, step, weights, fields, binarize)
    elif kind == "HashingVectorizer":
        raise Unconvertible(
            "HashingVectorizer has no vocabulary, and hashing every token in Python gains nothing over it; "
            "CountVectorizer and TfidfVectorizer have one"
        )
    elif binarize:
        raise Unconvertible(f"BernoulliNB reads what {kind} makes of the counts")
    else:
        weights, shift = _folded(step, weights)
        total.bias += shift
        spread(total, before, weights, fields)


def passes(step: Any) -> bool:
    """Whether a step hands its rows on as they are."""
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return True
    return type(step).__name__ == "FunctionTransformer" and step.func is None


def inside(step: Any) -> list[Any]:
    """The steps of a nested pipeline, laid flat; a single step as one."""
    if type(step).__name__ != "Pipeline":
        return [step]
    return [each for _, inner in step.steps for each in inside(inner)]


def width(steps: Sequence[Any]) -> int:
    """How many columns the last of some fitted steps gives.

    Raises:
        Unconvertible: a step does not say.
    """
    flat = [each for step in steps for each in inside(step) if not passes(each)]
    if not flat:
        raise Unconvertible("a union hands columns on as they are")
    step = flat[-1]
    kind = type(step).__name__
    if isinstance(step, str):
        return 0
    if kind in COUNTERS:
        return tokens_of(step)
    if kind == "FeatureUnion":
        return sum(width([inner]) for _, inner in step.transformer_list)
    if kind in _PROJECTIONS:
        return len(step.components_)
    if hasattr(step, "get_support"):
        return int(step.get_support().sum())
    if kind in ("TfidfTransformer", "Normalizer", *_SCALERS):
        return width(flat[:-1])
    raise Unconvertible(f"{kind} between the texts and the model is not known")


def _need_nothing_before(before: Sequence[Any], step: Any) -> None:
    if before:
        raise Unconvertible(f"{type(before[-1]).__name__} stands before the {type(step).__name__}")


def _parted(total: Sum, step: Any, weights: Floats, fields: Sequence[Field], binarize: bool) -> None:
    """A ColumnTransformer: texts one by one, and everything else for the ONNX compiler."""
    known = [field.name for field in fields]
    for name, inner, columns in step.transformers_:
        if isinstance(inner, str) and inner == "drop":
            continue
        chosen = tuple(fields[place] for place in places_of(columns, known, len(known)))
        if not chosen:
            continue
        given = weights[:, step.output_indices_[name]]
        if counts_tokens(inner):
            spread(total, inside(inner), given, chosen, binarize=binarize)
        elif binarize:
            raise Unconvertible("BernoulliNB reads columns that are no text")
        else:
            total.shares.append(Share(inner, chosen, given))


def counts_tokens(step: Any) -> bool:
    """Whether a step, or one inside it, counts tokens."""
    kind = type(step).__name__
    if kind == "Pipeline":
        return any(counts_tokens(inner) for _, inner in step.steps)
    if kind == "FeatureUnion":
        return any(counts_tokens(inner) for _, inner in step.transformer_list)
    if kind == "ColumnTransformer":
        fitted = getattr(step, "transformers_", step.transformers)
        return any(counts_tokens(inner) for _, inner, _ in fitted)
    return kind in COUNTERS or kind == "HashingVectorizer"


def _together(
    total: Sum, before: Sequence[Any], step: Any, weights: Floats, fields: Sequence[Field], binarize: bool
) -> None:
    """Counts of one or several vectorizers that are weighted and brought to length one together."""
    if not before:
        raise Unconvertible(f"{type(step).__name__} stands before the texts are counted")
    if len(before) > 1:
        raise Unconvertible(
            f"{type(before[-1]).__name__} stands between the counts and {type(step).__name__}"
        )
    bags: list[Bag] = []
    for inner in _vectorizers(before[0]):
        bag, weighting = bag_of(inner, total.column_of(fields))
        if not weighting.plain:
            raise Unconvertible(
                f"{type(step).__name__} weighs counts that {type(inner).__name__} has weighed"
            )
        bags.append(bag)
    if type(step).__name__ == "Normalizer":
        if step.norm not in ("l1", "l2"):
            raise Unconvertible(f"Normalizer divides by the {step.norm} norm")
        part, idf = Part(bags=tuple(bags), norm=step.norm), None
    else:
        idf = np.asarray(step.idf_, dtype=np.float64) if step.use_idf else None
        part = Part(bags=tuple(bags), sublinear=step.sublinear_tf, idf=idf is not None, norm=step.norm or "")
    total.add(_binary(part) if binarize else part, weights, None if binarize else idf)


def _vectorizers(step: Any) -> list[Any]:
    """The vectorizers of a step that is one, or a union of nothing else."""
    if type(step).__name__ in COUNTERS:
        return [step]
    if type(step).__name__ == "FeatureUnion" and not step.transformer_weights:
        found = [inside(inner) for _, inner in step.transformer_list]
        if all(len(steps) == 1 and type(steps[0]).__name__ in COUNTERS for steps in found):
            return [steps[0] for steps in found]
    raise Unconvertible(f"{type(step).__name__} stands where texts should be counted")


def _binary(part: Part) -> Part:
    """The part with 1 for every token that occurs, which is what BernoulliNB makes of any weight above 0."""
    bags = tuple(
        Bag(column=bag.column, analyzer=bag.analyzer, vocabulary=bag.vocabulary, binary=True)
        for bag in part.bags
    )
    return Part(bags=bags)


def _folded(step: Any, weights: Floats) -> tuple[Floats, Floats]:
    """Weights and bias that do to a step's input what ``weights`` do to its output."""
    kind = type(step).__name__
    if kind in _SCALERS:
        scale = getattr(step, "scale_", None)
        scaled = weights if scale is None else weights / scale
        centre = getattr(step, "mean_" if kind == "StandardScaler" else "center_", None)
        moves = getattr(step, "with_mean", False) or getattr(step, "with_centering", False)
        return scaled, -(scaled @ centre) if moves and centre is not None else np.zeros(len(weights))
    if kind in _PROJECTIONS and not getattr(step, "whiten", False):
        projected = weights @ step.components_
        mean = getattr(step, "mean_", None)
        return projected, np.zeros(len(weights)) if mean is None else -(projected @ mean)
    if hasattr(step, "get_support"):
        chosen = step.get_support()
        full = np.zeros((len(weights), len(chosen)))
        full[:, chosen] = weights
        return full, np.zeros(len(weights))
    raise Unconvertible(f"{kind} between the texts and the model is not linear, or not known")


def _rest(total: Sum) -> bytes:
    """The graph that gives the scores of the columns that are no text: double ``[rows, scores]``."""
    graph = Graph()
    source = Source(graph, total.signature)
    matrices = []
    for share in total.shares:
        value: Any = View(source, share.fields, total.style)
        for step in inside(share.step):
            value = compile_step(graph, step, value)
        matrices.append(as_matrix(graph, value))
    matrix = join(graph, matrices).plain(graph)
    weights = np.concatenate([share.weights for share in total.shares], axis=1)
    if matrix.width != weights.shape[1]:
        raise Unconvertible("the columns that are no text have another width when compiled")
    product = graph.node("MatMul", [matrix.tensor, graph.constant(np.ascontiguousarray(weights.T))])
    return graph.model({"scores": (product, TensorProto.DOUBLE, len(weights))})
