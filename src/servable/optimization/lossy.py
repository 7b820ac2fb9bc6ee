"""Forms that answer a little differently on purpose: made, measured by a metric on held-out rows, timed.

Whether a form is good enough is not decided here: a ``Judge`` compares its answers and the trained model's
with the truth. The rows that int8 is calibrated on are never among those that are measured.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from servable.artifact.files import storage_errors
from servable.artifact.loss import Loss
from servable.artifact.manifest import TRAINED, Proof, Variant
from servable.artifact.signature import Signature
from servable.errors import ModelFailed
from servable.frameworks.base import Predictor
from servable.optimization import derived, measure, parity, session
from servable.optimization.forms import TEXT_NETWORK, Form, loaded
from servable.optimization.graph import Unconvertible
from servable.optimization.questions import Questions, answers
from servable.progress import Progress
from servable.tensors import Arrays, row_count, take

#: A lossy form is kept only when it is faster than the form that it was made from by this factor.
WORTH_LOSS = 1.1
#: What stands for all lossy forms where none could be made.
_ALL = "lossy forms"
#: The format of recurrent networks over texts as they were trained.
_RECURRENT = "recurrent"
#: Share of the rows that int8 is calibrated on, and the most of them.
_CALIBRATED_SHARE, _MOST_CALIBRATED = 0.2, 200
#: Rows of one run while measuring: scales that are found at each run depend on how many rows it has, and a
#: server that is busy puts about so many together.
_ASKED_AT_ONCE = 32

Places = NDArray[np.int64]
#: From places of rows, and the trained model's and a form's answers to those rows, to the verdict.
Judge = Callable[[Places, Arrays, Arrays], Loss]


class Subject(NamedTuple):
    """The model whose lossy forms are tried.

    Attributes:
        signature: what it takes and gives.
        questions: gives the held-out rows and those made to be nasty, with the trained model's answers.
        folder: the package being made.
        tolerance: largest difference of an answer at which other session options count as equal.
        tune: whether session options are searched.
        batches: numbers of rows to time.
    """

    signature: Signature
    questions: Callable[[], Questions]
    folder: Path
    tolerance: float
    tune: bool
    batches: Sequence[int] = measure.BATCHES


class Tried(NamedTuple):
    """What came of it.

    Attributes:
        kept: forms that passed the gate and are faster; their files are in the package.
        refused: forms that did not, with what was measured.
        notes: one sentence for each that could not be made.
    """

    kept: tuple[Variant, ...] = ()
    refused: tuple[Variant, ...] = ()
    notes: tuple[str, ...] = ()


class Lossy(Protocol):
    """What is tried beyond the forms that are equal."""

    def tried(self, subject: Subject, exact: Sequence[Variant], progress: Progress) -> Tried:
        """Make, measure and time lossy forms.

        Args:
            subject: the model.
            exact: its trained form and those that are equal, as they would serve; files in the package.
            progress: told of every form.
        """
        ...


class ExactOnly:
    """No lossy form is tried."""

    def tried(self, subject: Subject, exact: Sequence[Variant], progress: Progress) -> Tried:
        """Nothing."""
        return Tried()


EXACT_ONLY = ExactOnly()


class NotTried:
    """Lossy forms were asked for and cannot be tried at all.

    Args:
        reason: why, without a full stop.
    """

    def __init__(self, reason: str) -> None:
        self._note = f"{_ALL}: not made, because {reason}."

    def tried(self, subject: Subject, exact: Sequence[Variant], progress: Progress) -> Tried:
        """The reason as a note."""
        return Tried(notes=(self._note,))


class Split(NamedTuple):
    """Places of rows: those that int8 is calibrated on, and those that the metric is measured on."""

    calibration: Places
    measured: Places


def split(rows: int, seed: int = 0) -> Split:
    """Rows apart by chance: a fifth to calibrate on, 200 at most, all others to measure on. Pure."""
    order = np.random.default_rng(seed).permutation(rows).astype(np.int64)
    count = min(_MOST_CALIBRATED, int(rows * _CALIBRATED_SHARE))
    return Split(np.sort(order[:count]), np.sort(order[count:]))


class Asked(NamedTuple):
    """What the forms are asked, and the places of the held-out rows that are measured."""

    questions: Questions
    places: Places


class WithinLoss:
    """Lossy forms whose loss in a metric is small enough.

    Args:
        judge: the gate.
        truths: how many rows have a true answer; the first ones of the subject's.
    """

    def __init__(self, judge: Judge, truths: int) -> None:
        self._judge = judge
        self._truths = truths

    def tried(self, subject: Subject, exact: Sequence[Variant], progress: Progress) -> Tried:
        """Make, measure and time lossy forms; see the protocol."""
        # Here, because it imports the quantiser of onnxruntime, which takes its time.
        from servable.optimization import quantized

        kept: list[Variant] = []
        refused: list[Variant] = []
        notes: list[str] = []
        with storage_errors("trying lossy forms"), tempfile.TemporaryDirectory(prefix="servable-") as made:
            try:
                source = source_of(exact)
                base = quantized.prepared(subject.folder, source, Path(made))
            except Unconvertible as reason:
                return NotTried(str(reason)).tried(subject, exact, progress)
            questions = subject.questions()
            parts = split(min(self._truths, row_count(questions.rows)))
            calibration = take(questions.rows, parts.calibration)
            forms = [
                *quantized.forms(base, subject.folder, source, calibration),
                *derived.lossy(source, subject.folder),
            ]
            progress.begin("Try lossy forms", total=len(forms))
            asked = Asked(questions, parts.measured)
            for form in forms:
                try:
                    variant, serves = self._trial(form, subject, source, asked)
                except Unconvertible as reason:
                    notes.append(f"{form.name}: not made, because {reason}.")
                    progress.advance(note=notes[-1])
                    continue
                (kept if serves else refused).append(variant)
                progress.advance(note=f"{form.name}: {variant.note}")
        return Tried(tuple(kept), tuple(refused), tuple(notes))

    def _trial(self, form: Form, subject: Subject, source: Variant, asked: Asked) -> tuple[Variant, bool]:
        """One form: its record with what was measured, and whether it is kept with its files in the package.

        Raises:
            Unconvertible: it cannot be made, or cannot be loaded.
        """
        with loaded(form, subject.signature) as made:
            proof = self._proof(made.predictor, subject, asked)
            variant = msgspec.structs.replace(made.variant, proof=proof, note=_sentence(proof))
            if not proof.serves:
                return variant, False
            variant = msgspec.structs.replace(
                variant,
                timings=measure.time_predictor(made.predictor, asked.questions.rows, subject.batches),
                note=variant.note + _on_made_rows(made.predictor, asked.questions),
            )
            if subject.tune and variant.format in session.FORMATS:
                variant = session.tune(
                    made.folder,
                    variant,
                    asked.questions.rows,
                    tolerance=subject.tolerance,
                    proven=lambda other: self._proof(other, subject, asked).serves,
                ).variant
            if measure.typical(variant) * WORTH_LOSS > measure.typical(source):
                note = f"not kept: as served, it is not {WORTH_LOSS - 1:.0%} faster than {source.name}; "
                note += variant.note
                return msgspec.structs.replace(variant, note=note), False
            made.keep(subject.folder)
        return variant, True

    def _proof(self, predictor: Predictor, subject: Subject, asked: Asked) -> Proof:
        """What a form's answers differ by, and what that costs."""
        tolerance, count = subject.tolerance, len(asked.places)
        expected = take(asked.questions.answered(), asked.places)
        try:
            given = answers(predictor, take(asked.questions.rows, asked.places), chunk=_ASKED_AT_ONCE)
        except ModelFailed as failure:
            return Proof(equal=False, rows=count, tolerance=tolerance, reason=failure.message)
        proof = parity.compare(expected, given, tolerance=tolerance)
        return msgspec.structs.replace(proof, loss=self._judge(asked.places, expected, given))


def source_of(exact: Sequence[Variant]) -> Variant:
    """The form that lossy ones are made from: the fastest in ONNX.

    Raises:
        Unconvertible: there is none.
    """
    graphs = [variant for variant in exact if variant.format == "onnx"]
    if not graphs and any(variant.name == TEXT_NETWORK or variant.format == _RECURRENT for variant in exact):
        raise Unconvertible(
            "nearly all of its time goes into a GRU, which onnxruntime computes in float32 only, and with "
            "the rest of it in int8 it was not faster"
        )
    if not graphs:
        held = ", ".join(variant.format for variant in exact if variant.name != TRAINED)
        other = f"; what is equal is in the form {held!r}" if held else ""
        raise Unconvertible(f"the model has no form in ONNX that was proven equal{other}")
    return min(graphs, key=measure.typical)


def _on_made_rows(predictor: Predictor, questions: Questions) -> str:
    """How a form answers rows made to be nasty, for people; they have no truth, so they decide nothing."""
    asked = astray = 0
    for rows, expected in questions.made():
        count = row_count(rows)
        asked += count
        try:
            given = answers(predictor, rows, chunk=_ASKED_AT_ONCE)
        except ModelFailed:
            astray += count
            continue
        astray += int(np.count_nonzero(_astray(expected, given, count)))
    return f"; {astray:,} of {asked:,} rows made to be nasty get another label or no number" if astray else ""


def _astray(expected: Arrays, given: Arrays, rows: int) -> NDArray[np.bool_]:
    """Rows with another label, or without a number where the trained model has one."""
    found = np.zeros(rows, dtype=np.bool_)
    for name, wanted in expected.items():
        if wanted.dtype.kind in "iub":
            wrong = wanted != given[name]
        elif wanted.dtype.kind == "f":
            wrong = np.isfinite(wanted) & ~np.isfinite(given[name])
        else:
            continue
        found |= wrong.reshape(rows, -1).any(axis=1)
    return found


def _sentence(proof: Proof) -> str:
    """What was measured, for people."""
    loss = proof.loss
    if loss is None:
        return f"refused: {proof.reason}"
    verdict = f"refused: {loss.reason}" if not loss.passed else "within its largest loss"
    if loss.loss is None or loss.most is None or loss.low is None or loss.high is None:
        return verdict
    return (
        f"{verdict}; {loss.metric} {loss.variant:.4f} instead of {loss.trained:.4f} on {loss.rows:,} "
        f"held-out rows, a loss of {_short(loss.loss)} (95 % interval {_short(loss.low)} to "
        f"{_short(loss.high)}), {_short(loss.most)} allowed"
    )


def _short(value: float) -> str:
    """A loss in a few digits; a small one does not become zero."""
    return f"{value:.2g}" if value else "0"
