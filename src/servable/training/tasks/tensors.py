"""Choosing and training on pictures and sounds: simple models and a network compete on rows held apart."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold
from torch import nn

from servable.artifact.preparation import AudioInput
from servable.artifact.signature import Field, Signature
from servable.errors import DataError, SettingInvalid
from servable.inputs.needed import FileUnfit
from servable.inputs.rows import one
from servable.inputs.samples import example_of
from servable.progress import Progress
from servable.tensors import PREDICTION, PROBABILITIES
from servable.training.candidates import DUMMY
from servable.training.chance import at_least, surely_better
from servable.training.crossval import CandidateResult
from servable.training.evaluate import Evaluation, evaluate
from servable.training.outcome import metrics_of
from servable.training.split import hold_out
from servable.training.tasks import baselines, pictures, sounds
from servable.training.tasks.media import Found, Media
from servable.training.tasks.modules import Blend, Constant, Heard
from servable.training.tasks.network import Epoch, Lesson, answers, learn

#: Families by name, with the words for people; ``dummy`` is always measured too.
FAMILIES = {
    DUMMY: "Most frequent class",
    "linear": "Logistic regression",
    "kernel": "Support vector machine",
    "network": "Convolutional network",
    "blend": "Network and support vector machine together",
}
#: Share of the rows learned from that tells when a network is best, and which family is.
_VALIDATION = 0.1
_EPOCHS = {"image": 32, "audio": 60}
_SIMPLEST = (*FAMILIES,)
#: What tells three classes or more.
_THREE = frozenset({"kernel", "blend"})
#: What needs the network.
_LEARNING = frozenset({"network", "blend"})
#: Turns through the rows for few of them are short, so there are more; and a tenth of few rows tells little,
#: so simple families are compared on all of them, in folds.
_FEW_ROWS = 1_500
_FOLDS = 5
#: A label survives a mirror when a simple model still knows so much of what it knew.
_MIRROR = 0.6
#: Pictures with sides of so many pixels at least are seen by a network at half of their size.
_HALVED_SIDE = 24
#: Bytes of held-out rows that a package keeps for proofs made later.
SAMPLE_BYTES = 32 * 1024 * 1024


class TensorProblem(NamedTuple):
    """Rows ready to be learned from.

    Attributes:
        medium: ``image`` or ``audio``.
        signature: of the model to be made.
        rows: float32 ``[n, *shape]``.
        truth: class indexes ``[n]``.
        train: which rows are learned from.
        holdout: which rows nothing is learned from.
        notes: sentences for the report.
        set_aside: whether the data itself keeps the held-out rows for measuring.
    """

    medium: str
    signature: Signature
    rows: NDArray[np.float32]
    truth: NDArray[np.int64]
    train: NDArray[np.int64]
    holdout: NDArray[np.int64]
    notes: tuple[str, ...] = ()
    set_aside: bool = False

    @property
    def field(self) -> Field:
        """The input."""
        return self.signature.inputs[0]


class Fitted(NamedTuple):
    """A family after learning.

    Attributes:
        result: its place on the leaderboard.
        module: gives scores.
        rows: how many its score was measured on.
        course: of a network.
        most: what counts of its accuracy; less than all of it where a lead may be chance.
    """

    result: CandidateResult
    module: nn.Module
    rows: int
    course: tuple[Epoch, ...] = ()
    most: float = 1.0

    @property
    def surely(self) -> float:
        """What its accuracy is at least, give or take."""
        return min(self.most, at_least(self.result.score, self.rows))


def problem_of(
    found: Found,
    *,
    target: str,
    holdout: float,
    seed: int,
    progress: Progress,
    field: Field | None = None,
) -> TensorProblem:
    """Prepare every file as a server would, and choose the rows to measure on.

    Args:
        found: what was read; rows that the data sets aside are the held-out ones, else a share is.
        target: name of the answer.
        holdout: that share.
        seed: of the choice.
        progress: told of every file.
        field: that takes the files; None for one that suits them.

    Raises:
        DataError: a file does not fit; the sentence names it.
        SettingInvalid: the share is out of range.
        DependencyMissing: a library for such files is not installed.
    """
    media = found.train
    if field is None:
        chosen = pictures if media.medium == "image" else sounds
        field = chosen.input_of(media.files, media.names)
    labels = tuple(sorted(set(media.labels), key=_natural))
    index = {label: place for place, label in enumerate(labels)}
    sets = [media, found.holdout] if found.holdout is not None else [media]
    progress.begin("Prepare the files", total=sum(len(each.files) for each in sets))
    rows = np.concatenate([_prepared(each, field, progress) for each in sets])
    truth = np.asarray([_class(label, name, index) for each in sets for label, name in _told(each)])
    progress.done(f"{len(rows)} {media.medium} files as {list(field.shape)}")
    if found.holdout is not None:
        train = np.arange(len(media.files))
        held = np.arange(len(media.files), len(rows))
    else:
        parts = hold_out(len(rows), truth, "classification", share=holdout, seed=seed)
        train, held = parts.train, parts.holdout
    answer = Field(name=target, kind="category", dtype="str", values=labels)
    example = example_of(field.preparation) if field.preparation is not None else None
    signature = Signature(
        task="classification",
        inputs=(field,),
        outputs=(answer,),
        probabilities=True,
        example={field.name: example},
    )
    set_aside = found.holdout is not None
    return TensorProblem(media.medium, signature, rows, truth, train, held, set_aside=set_aside)


def _natural(label: str) -> tuple[int, float, str]:
    """Numbers by size, then words."""
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label


def _told(media: Media) -> list[tuple[str, str]]:
    return list(zip(media.labels, media.names, strict=True))


def _class(label: str, name: str, index: dict[str, int]) -> int:
    if label not in index:
        raise DataError(f"{name} is of class {label!r}, of which there is nothing to learn from.")
    return index[label]


def _prepared(media: Media, field: Field, progress: Progress) -> NDArray[np.float32]:
    made = np.zeros((len(media.files), *field.shape), np.float32)
    for row, (data, name) in enumerate(zip(media.files, media.names, strict=True)):
        try:
            made[row] = one(field, data)
        except FileUnfit as error:
            raise DataError(f"{name}: {error}.") from error
        if row % 100 == 99:
            progress.advance(100)
    return made


def compete(
    problem: TensorProblem,
    *,
    models: str | Sequence[str] = "auto",
    until: float,
    seed: int,
    progress: Progress,
) -> list[Fitted]:
    """Fit each family on most of the rows learned from and measure it on the rest of them; best first.

    Args:
        problem: the rows.
        models: ``auto`` or names of families.
        until: by ``time.monotonic``, when the network has to be ready.
        seed: of everything.
        progress: told of every family.

    Raises:
        SettingInvalid: no such family, or one that cannot tell two classes.
    """
    names = _chosen(models, problem)
    parts = hold_out(
        len(problem.train), problem.truth[problem.train], "classification", share=_VALIDATION, seed=seed
    )
    train, validation = problem.train[parts.train], problem.train[parts.holdout]
    shown = (problem.rows[validation], problem.truth[validation])
    fitted: list[Fitted] = []
    simple = [name for name in names if name not in _LEARNING]
    progress.begin("Fit the simple models", total=len(simple))
    for name in simple:
        began = time.monotonic()
        one = _scored(name, _simple(name, problem, train, seed), shown, time.monotonic() - began)
        fitted.append(_in_folds(one, problem, seed) if len(problem.train) < _FEW_ROWS else one)
        progress.advance(1, f"{name} {fitted[-1].result.score:.4f}")
    progress.done()
    if _LEARNING & set(names):
        fitted.append(_taught(problem, train, shown, until=until, seed=seed, progress=progress))
    if "blend" in names:
        known = [each.module for each in fitted if each.result.name == "kernel"]
        fitted.append(
            _blended(fitted[-1], known[0] if known else _simple("kernel", problem, train, seed), shown)
        )
    # Of equals the simpler one is better.
    return sorted(fitted, key=lambda each: (-each.surely, _SIMPLEST.index(each.result.name)))


def _taught(
    problem: TensorProblem,
    train: NDArray[np.int64],
    shown: tuple[NDArray[Any], NDArray[Any]],
    *,
    until: float,
    seed: int,
    progress: Progress,
) -> Fitted:
    """The network, which learns from some rows and is measured on others."""
    began = time.monotonic()
    lesson = _lesson(problem, train, shown, seed)
    epochs = _EPOCHS[problem.medium] * (2 if len(train) < _FEW_ROWS and problem.medium == "image" else 1)
    seen = (_as_picture(shown[0]), shown[1])
    learnt = learn(lesson, seen, epochs=epochs, until=until, seed=seed, progress=progress)
    module = Heard(learnt.module) if problem.medium == "audio" else learnt.module
    scored = _scored("network", module.eval(), shown, time.monotonic() - began)
    return scored._replace(course=learnt.epochs)


def _blended(network: Fitted, kernel: nn.Module, shown: tuple[NDArray[Any], NDArray[Any]]) -> Fitted:
    """A network and a support vector machine together; no better than the network unless surely so."""
    both = Blend(network.module, kernel).eval()
    blend = _scored("blend", both, shown, network.result.fit_seconds)._replace(course=network.course)
    lead = surely_better(_right(both, shown), _right(network.module, shown))
    return blend if lead else blend._replace(most=network.surely)


def _chosen(models: str | Sequence[str], problem: TensorProblem) -> list[str]:
    two = len(problem.signature.classes) < 3
    if models == "auto":
        return [name for name in FAMILIES if not (name in _THREE and two)]
    asked = [models] if isinstance(models, str) else list(models)
    for name in asked:
        if name not in FAMILIES:
            raise SettingInvalid(f"No model {name!r} for {problem.medium}; there are {', '.join(FAMILIES)}.")
        if name in _THREE and two:
            raise SettingInvalid(f"The model {name!r} tells three classes or more; use linear or network.")
    return [DUMMY, *(name for name in asked if name != DUMMY)]


def _simple(name: str, problem: TensorProblem, train: NDArray[np.int64], seed: int) -> nn.Module:
    rows, truth = problem.rows[train], problem.truth[train]
    if name == DUMMY:
        counts = np.bincount(truth, minlength=len(problem.signature.classes)).astype(np.float32)
        return Constant(np.log(np.maximum(counts, 1e-3) / counts.sum())).eval()
    how = problem.field.preparation
    features = baselines.Pooled(how.mels) if isinstance(how, AudioInput) else baselines.Flat()
    fit = baselines.linear if name == "linear" else baselines.kernel
    return fit(rows, truth, features, seed)


def _right(module: nn.Module, shown: tuple[NDArray[Any], NDArray[Any]]) -> NDArray[np.bool_]:
    return np.asarray(answers(module, shown[0]).argmax(axis=1) == shown[1])


def _scored(name: str, module: nn.Module, shown: tuple[NDArray[Any], NDArray[Any]], seconds: float) -> Fitted:
    score = float(_right(module, shown).mean())
    return Fitted(CandidateResult(name, FAMILIES[name], score, 0.0, seconds, {}), module, len(shown[1]))


def _in_folds(fitted: Fitted, problem: TensorProblem, seed: int) -> Fitted:
    """A simple family with the score that it has over all rows learned from, each asked of others of them."""
    rows, truth = problem.rows[problem.train], problem.truth[problem.train]
    least = int(np.unique(truth, return_counts=True)[1].min())
    folds = StratifiedKFold(max(2, min(_FOLDS, least)), shuffle=True, random_state=seed)
    right = np.zeros(len(truth), np.bool_)
    shares = []
    for learned, asked in folds.split(truth, truth):
        module = _simple(fitted.result.name, problem, problem.train[learned], seed)
        right[asked] = answers(module, rows[asked]).argmax(axis=1) == truth[asked]
        shares.append(float(right[asked].mean()))
    score, spread = float(right.mean()), float(np.std(shares))
    result = dataclasses.replace(fitted.result, score=score, score_std=spread)
    return fitted._replace(result=result, rows=len(truth))


def _as_picture(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows if rows.ndim == 4 else baselines.floored(torch.from_numpy(rows)).numpy()[:, None]


def _lesson(
    problem: TensorProblem, train: NDArray[np.int64], shown: tuple[NDArray[Any], NDArray[Any]], seed: int
) -> Lesson:
    rows, truth = problem.rows[train], problem.truth[train]
    classes = len(problem.signature.classes)
    if problem.medium == "audio":
        return Lesson(_as_picture(rows), truth, classes, sounds.augmentation())
    mirrored = _mirror_safe(rows, truth, shown, seed)
    halved = min(rows.shape[2:]) >= _HALVED_SIDE
    return Lesson(rows, truth, classes, pictures.augmentation(mirrored), halved, mirrored)


def _mirror_safe(
    rows: NDArray[np.float32], truth: NDArray[np.int64], shown: tuple[NDArray[Any], NDArray[Any]], seed: int
) -> bool:
    """Whether mirrored pictures keep their labels, asked of a simple model that has seen none of them.

    Clothes do, digits and letters do not; nobody has to say so.
    """
    few = np.random.default_rng(seed).permutation(len(rows))[:2000]
    module = baselines.linear(rows[few], truth[few], baselines.Flat(), seed)
    plain = float((answers(module, shown[0]).argmax(axis=1) == shown[1]).mean())
    turned = float((answers(module, pictures.mirrored(shown[0])).argmax(axis=1) == shown[1]).mean())
    return turned >= _MIRROR * plain


def refitted(problem: TensorProblem, fitted: Fitted, seed: int) -> Fitted:
    """A simple family fitted again on every row that may be learned from; a network keeps what it learnt."""
    if fitted.result.name in _LEARNING:
        return fitted
    return fitted._replace(module=_simple(fitted.result.name, problem, problem.train, seed))


def evaluation_of(problem: TensorProblem, best: Fitted, others: Sequence[Fitted], seed: int) -> Evaluation:
    """The best family on the held-out rows, with the dummy and the linear one beside it."""
    rows, truth = problem.rows[problem.holdout], problem.truth[problem.holdout]
    found = evaluate(problem.signature, truth, answered(best.module, rows), seed=seed)
    for each in others:
        if each.result.name in (DUMMY, "linear"):
            metrics = metrics_of(problem.signature, truth, answered(each.module, rows))
            found.baselines[each.result.name] = metrics
    return found


def answered(module: nn.Module, rows: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Class indexes and probabilities of a module."""
    scores = answers(module, rows).astype(np.float64)
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances = shifted / shifted.sum(axis=1, keepdims=True)
    return {PREDICTION: chances.argmax(axis=1).astype(np.int64), PROBABILITIES: chances}
