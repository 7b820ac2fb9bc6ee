"""Compile, prove, time, choose: which form of a model serves."""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from servable.artifact.files import storage_errors
from servable.artifact.manifest import TRAINED, Timing, Variant
from servable.frameworks.base import MADE_FROM, Trained
from servable.frameworks.lookup import adapter
from servable.optimization import derived, measure, parity, session
from servable.optimization.forms import Form, forms, loaded
from servable.optimization.graph import Unconvertible
from servable.optimization.lossy import EXACT_ONLY, WORTH_LOSS, Lossy, Subject
from servable.optimization.questions import Questions
from servable.progress import NoProgress, Progress
from servable.tensors import Arrays, take

#: Rows of the sample that are compared at most.
MOST_ROWS = 20_000
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
    lossy: Lossy = EXACT_ONLY,
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
        lossy: what is tried beyond the equal forms.
        progress: who looks.

    Raises:
        ModelFailed: the trained model does not answer the sample.
        StorageFull: no space left.
        StorageFailed: the folder cannot be written.
    """
    seen = progress or NoProgress()
    rows = take(sample, slice(0, MOST_ROWS))
    framework = fallback.format if fallback is not None else "sklearn"
    model = adapter(framework).wrap(trained)
    held = fallback or Variant(name=TRAINED, format=framework, path="")
    tried = forms(framework, trained)
    further = () if tried else derived.exact([held], folder)
    seen.begin("Compile and prove", total=len(tried) + 1)
    held = msgspec.structs.replace(held, timings=measure.time_predictor(model, rows, batches))
    seen.advance(note=f"trained: {_said(held.timings)}")
    # Made when somebody asks: a model with which nothing is compared need not answer all of the sample and
    # what is made to be nasty.
    questions = cache(lambda: Questions(trained, model, rows))
    subject = Subject(trained.signature, questions, folder, tolerance, tune, batches)
    found = Optimised((held,), TRAINED)
    if tried or further:
        found = _equal(subject, held, tried, further, seen)
    more = lossy.tried(subject, found.variants if tried or further else (), seen)
    model.close()
    variants = (*found.variants, *more.kept)
    serving = fastest(variants)
    seen.done(_outcome(variants[0], next(v for v in variants if v.name == serving)))
    return Optimised(variants, serving, (*found.refused, *more.refused), (*found.notes, *more.notes))


def _equal(
    subject: Subject, held: Variant, tried: Sequence[Form], further: Sequence[Form], seen: Progress
) -> Optimised:
    """The trained form and those that are equal, made from it or from each other, tuned where that is wanted.

    Args:
        subject: the model.
        held: its trained form.
        tried: the forms that are made from it.
        further: those that are made from it as a compiled form, where it is one.
        seen: who looks.
    """
    questions = subject.questions()
    equal, refused, notes = _proven(subject, tried, seen)
    if further := further or derived.exact(equal, subject.folder):
        seen.begin("Make others of the compiled form", total=len(further))
        others = _proven(subject, further, seen)
        equal, refused, notes = equal + others[0], refused + others[1], notes + others[2]
    variants = [held, *equal]
    tunable = variants[0 if held.format in session.FORMATS else 1 :]
    if subject.tune and tunable:
        tuned = _tuned(subject.folder, tunable, questions, subject.tolerance, seen)
        variants[-len(tunable) :] = tuned
    return Optimised(tuple(variants), fastest(variants), tuple(refused), tuple(notes))


def _proven(
    subject: Subject, tried: Sequence[Form], seen: Progress
) -> tuple[list[Variant], list[Variant], list[str]]:
    """The forms that are equal, those that are not, and a sentence for each that could not be made."""
    equal: list[Variant] = []
    refused: list[Variant] = []
    notes: list[str] = []
    for form in tried:
        try:
            variant = _candidate(subject, form)
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
    folder: Path, forms: Sequence[Variant], questions: Questions, tolerance: float, seen: Progress
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


def fastest(variants: Sequence[Variant]) -> str:
    """The name of the form that should serve: least time over one row and larger batches. Pure.

    The score is ``measure.typical``. A form without a proof of equality, or a lossy one that did not pass its
    gate, does not serve, except the trained one itself.
    """
    best, score = TRAINED, math.inf
    for variant in variants:
        if variant.name != TRAINED and not (variant.proof and variant.proof.serves):
            continue
        seconds = measure.typical(variant) * _handicap(variant)
        if seconds < score:
            best, score = variant.name, seconds
    return best


def _handicap(variant: Variant) -> float:
    """How much slower than it is a form counts, because it is less precise or needs more."""
    lossy = variant.proof is not None and variant.proof.loss is not None
    factor = _WORTH_ROUNDING if lossy or variant.name.endswith("fp32") else 1.0
    if lossy:
        factor *= WORTH_LOSS
    return factor * _WORTH_A_LIBRARY if MADE_FROM in variant.options else factor


def _candidate(subject: Subject, form: Form) -> Variant:
    """One form: its record with its proof; its files are in the folder if it was proven equal.

    Raises:
        Unconvertible: it cannot be made, or cannot be loaded.
    """
    questions = subject.questions()
    with storage_errors("trying a compiled form"), loaded(form, questions.signature) as made:
        proof = questions.prove(made.predictor, subject.tolerance)
        variant = msgspec.structs.replace(made.variant, proof=proof)
        if not proof.equal:
            return msgspec.structs.replace(variant, note=f"refused: {proof.reason}")
        timings = measure.time_predictor(made.predictor, questions.rows, subject.batches)
        made.keep(subject.folder)
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
