"""Compile, prove, time, choose: which form of a model serves."""

import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from servable.artifact.files import storage_errors
from servable.artifact.manifest import TRAINED, Proof, Timing, Variant
from servable.errors import ArtifactError, ModelFailed
from servable.frameworks.base import MADE_FROM, Predictor, Trained
from servable.frameworks.lookup import adapter
from servable.optimization import measure, nasty, parity, session
from servable.optimization.derived import derived, source
from servable.optimization.forms import FOLDER, Form, forms
from servable.optimization.graph import Unconvertible
from servable.progress import NoProgress, Progress
from servable.tensors import Arrays, row_count, stack, take

#: Rows of the sample that are compared at most, and rows that are asked one by one.
_MOST_ROWS = 20_000
_ONE_BY_ONE = 32
#: Rows handed over in one call while comparing.
_CHUNK = 4096
#: A form in single precision serves only when it is faster by this factor; below, precision wins.
_WORTH_ROUNDING = 1.1
#: So must one that needs a library more than the form that it was made from.
_WORTH_A_LIBRARY = 1.1


class Optimised(NamedTuple):
    """What came of it.

    Attributes:
        variants: ``trained`` with its timings, then every compiled form that was proven equal and written.
        serving: name of the one that should serve.
        refused: forms that the proof refused, with their proof; no file of theirs was kept.
        notes: one sentence for each form that could not be made.
    """

    variants: tuple[Variant, ...]
    serving: str
    refused: tuple[Variant, ...] = ()
    notes: tuple[str, ...] = ()


def optimise(
    trained: Trained,
    sample: Arrays,
    folder: Path,
    *,
    fallback: Variant | None = None,
    tolerance: float = parity.TOLERANCE,
    batches: Sequence[int] = measure.BATCHES,
    tune: bool = False,
    progress: Progress | None = None,
) -> Optimised:
    """Make the other forms of a model, prove them, time them, and say which should serve.

    Args:
        trained: the model and its signature.
        sample: packed rows that training did not see, at least one; every one is compared, up to 20,000.
        folder: the package being made; equal forms are written to ``variants/`` in it.
        fallback: the record of the trained form as its adapter wrote it; gets the timings.
        tolerance: see ``parity.compare``.
        batches: numbers of rows to time.
        tune: whether session options are searched for each compiled form, see ``session.tune``.
        progress: who looks.

    Raises:
        ModelFailed: the trained model does not answer the sample.
        StorageFull: no space left.
        StorageFailed: the folder cannot be written.
    """
    seen = progress or NoProgress()
    rows = take(sample, slice(0, _MOST_ROWS))
    framework = fallback.format if fallback is not None else "sklearn"
    model = adapter(framework).wrap(trained)
    tried = forms(framework, trained)
    seen.begin("Compile and prove", total=len(tried) + 1)
    held = fallback or Variant(name=TRAINED, format=framework, path="")
    held = msgspec.structs.replace(held, timings=measure.time_predictor(model, rows, batches))
    seen.advance(note=f"trained: {_said(held.timings)}")
    further = () if tried else _exact(derived(source([held]), folder))
    if not tried and not further:
        # Nothing is compared, so the model need not answer all of the sample and what is made to be nasty.
        model.close()
        seen.done(_outcome(held, held))
        return Optimised((held,), TRAINED)
    questions = Questions(trained, model, rows)
    equal, refused, notes = _proven(questions, tried, folder, tolerance, batches, seen)
    if further := further or _exact(derived(source(equal), folder)):
        seen.begin("Make others of the compiled form", total=len(further))
        more = _proven(questions, further, folder, tolerance, batches, seen)
        equal, refused, notes = equal + more[0], refused + more[1], notes + more[2]
    variants = [held, *equal]
    tunable = variants[0 if held.format in session.FORMATS else 1 :]
    if tune and tunable:
        variants[-len(tunable) :] = _tuned(folder, tunable, questions, tolerance, seen)
    model.close()
    serving = fastest(variants)
    seen.done(_outcome(variants[0], next(v for v in variants if v.name == serving)))
    return Optimised(tuple(variants), serving, tuple(refused), tuple(notes))


def _exact(tried: Sequence[Form]) -> tuple[Form, ...]:
    """Those that are to answer equally; the others need a metric that decides about them."""
    return tuple(form for form in tried if not form.lossy)


def _proven(
    questions: "Questions",
    tried: Sequence[Form],
    folder: Path,
    tolerance: float,
    batches: Sequence[int],
    seen: Progress,
) -> tuple[list[Variant], list[Variant], list[str]]:
    """The forms that are equal, those that are not, and a sentence for each that could not be made."""
    equal: list[Variant] = []
    refused: list[Variant] = []
    notes: list[str] = []
    for form in tried:
        try:
            variant = _candidate(questions, form, folder, tolerance=tolerance, batches=batches)
        except Unconvertible as reason:
            notes.append(f"{form.name}: not made, because {reason}.")
            seen.advance(note=notes[-1])
            continue
        if variant.proof is None or not variant.proof.equal:
            refused.append(variant)
            seen.advance(note=f"{form.name}: refused, {variant.proof.reason if variant.proof else ''}")
            continue
        equal.append(variant)
        seen.advance(note=f"{form.name}: {_said(variant.timings)}")
    return equal, refused, notes


def _tuned(
    folder: Path, forms: Sequence[Variant], questions: "Questions", tolerance: float, seen: Progress
) -> list[Variant]:
    """The forms with the session options that are best here; each must be proven equal with them too."""
    seen.begin("Tune for this machine", total=len(forms))
    found = []
    for form in forms:
        if form.format not in session.FORMATS:
            seen.advance(note=f"{form.name} has nothing to tune")
            found.append(form)
            continue
        done = session.tune(
            folder,
            form,
            questions.rows,
            tolerance=tolerance,
            proven=lambda predictor: questions.prove(predictor, tolerance).equal,
        )
        seen.advance(note=done.note)
        found.append(done.variant)
    return found


class Questions:
    """Rows to compare on and the trained model's answers to them, made once for all candidates.

    Attributes:
        signature: of the model.
        rows: the held-out rows.
        asked: what is compared, by name: rows and the trained model's answers.
        declined: groups of nasty rows that the trained model itself refuses; nothing can be compared there.
    """

    def __init__(self, trained: Trained, model: Predictor, rows: Arrays) -> None:
        self.signature = trained.signature
        self.rows = rows
        self.asked: dict[str, tuple[Arrays, Arrays]] = {"held-out rows": (rows, answers(model, rows))}
        self.declined: list[str] = []
        for name, group in nasty.make(trained, rows).items():
            try:
                self.asked[name] = (group, answers(model, group))
            except ModelFailed:
                self.declined.append(name)

    def prove(self, variant: Predictor, tolerance: float) -> Proof:
        """Compare a variant on every group, and on some held-out rows one by one."""
        proofs: dict[str, Proof] = {}
        for name, (rows, expected) in self.asked.items():
            try:
                given = answers(variant, rows)
            except ModelFailed as failure:
                proofs[name] = Proof(
                    equal=False, rows=row_count(rows), tolerance=tolerance, reason=failure.message
                )
                continue
            proofs[name] = parity.compare(expected, given, tolerance=tolerance)
        count = min(_ONE_BY_ONE, row_count(self.rows))
        first = take(self.rows, slice(0, count))
        expected = take(self.asked["held-out rows"][1], slice(0, count))
        proofs["rows one by one"] = parity.compare(
            expected, answers(variant, first, chunk=1), tolerance=tolerance
        )
        return parity.together(proofs)


def answers(predictor: Predictor, rows: Arrays, *, chunk: int = _CHUNK) -> dict[str, Any]:
    """A predictor's answers to any number of rows, asked in chunks.

    Raises:
        ModelFailed: the model raised.
    """
    count = row_count(rows)
    return stack([predictor.predict(_part(rows, at, chunk)) for at in range(0, count, chunk)])


def _part(rows: Arrays, at: int, chunk: int) -> Arrays:
    """A chunk of rows, laid out as a decoder hands them in."""
    return {name: np.ascontiguousarray(array) for name, array in take(rows, slice(at, at + chunk)).items()}


def fastest(variants: Sequence[Variant]) -> str:
    """The name of the form that should serve: least time over one row and larger batches. Pure.

    The score is the geometric mean of the time of one row and of the largest batch up to 32. A form without
    a proof of equality does not serve, except the trained one itself.
    """
    best, score = TRAINED, math.inf
    for variant in variants:
        if variant.name != TRAINED and not (variant.proof and variant.proof.equal):
            continue
        small = [timing.seconds for timing in variant.timings if timing.rows <= 32]
        if not small:
            continue
        mean = math.exp((math.log(small[0]) + math.log(small[-1])) / 2) * _handicap(variant)
        if mean < score:
            best, score = variant.name, mean
    return best


def _handicap(variant: Variant) -> float:
    """How much slower than it is a form counts, because it is less precise or needs more."""
    factor = _WORTH_ROUNDING if variant.name.endswith("fp32") else 1.0
    return factor * _WORTH_A_LIBRARY if MADE_FROM in variant.options else factor


def _candidate(
    questions: Questions, form: Form, folder: Path, *, tolerance: float, batches: Sequence[int]
) -> Variant:
    """One form: its record with its proof; its files are in the folder if it was proven equal.

    Raises:
        Unconvertible: it cannot be made, or cannot be loaded.
    """
    with storage_errors("trying a compiled form"), tempfile.TemporaryDirectory(prefix="servable-") as made:
        scratch = Path(made)
        (scratch / FOLDER).mkdir()
        variant = form.make(scratch)
        try:
            predictor = adapter(variant.format).load(scratch, variant, questions.signature, trust=False)
        except ArtifactError as refusal:
            raise Unconvertible(
                f"{variant.format} does not take it ({refusal.__cause__ or refusal})"
            ) from refusal
        try:
            proof = questions.prove(predictor, tolerance)
            variant = msgspec.structs.replace(variant, proof=proof)
            if not proof.equal:
                return msgspec.structs.replace(variant, note=f"refused: {proof.reason}")
            timings = measure.time_predictor(predictor, questions.rows, batches)
        finally:
            predictor.close()
        shutil.copytree(scratch / FOLDER, folder / FOLDER, dirs_exist_ok=True)
    note = f"equal on {proof.rows} rows"
    if questions.declined:
        note += f"; the trained model refuses {len(questions.declined)} kinds of nasty rows"
    return msgspec.structs.replace(variant, timings=timings, note=note)


def _said(timings: Sequence[Timing]) -> str:
    """Timings for people."""
    return ", ".join(f"{timing.rows} rows {timing.seconds * 1e6:,.0f} us" for timing in timings)


def _outcome(trained: Variant, chosen: Variant) -> str:
    """One line on what serves."""
    if chosen.name == TRAINED:
        return "the trained form serves"
    ratio = trained.timings[0].seconds / chosen.timings[0].seconds
    return f"{chosen.name} serves, {ratio:,.0f}x faster"
