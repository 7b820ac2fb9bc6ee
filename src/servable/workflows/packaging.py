"""From a trained model to a published version: write, compile, prove, seal, register."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from servable.artifact.manifest import (
    EVALUATION_FILE,
    PROFILE_FILE,
    REPORT_FILE,
    Manifest,
    Variant,
)
from servable.artifact.package import write_json, write_signature
from servable.artifact.personal import personal_choices, profile_without_people, without_people
from servable.artifact.recipe import Recipe, write_recipe
from servable.artifact.sample import write_sample, write_truth
from servable.artifact.signature import Signature
from servable.clock import SystemClock, timestamp
from servable.frameworks import lookup
from servable.frameworks.base import EXECUTES, Trained
from servable.frameworks.onnx_session import SESSION
from servable.optimization import derived, session
from servable.optimization.choose import MOST_ROWS, Optimised, fastest, optimise
from servable.optimization.lossy import EXACT_ONLY, Lossy, Subject
from servable.optimization.measure import machine, time_predictor
from servable.optimization.parity import TOLERANCE
from servable.optimization.questions import Questions
from servable.progress import Progress
from servable.registry.home import Home, publish
from servable.registry.records import VersionRecord
from servable.runtime.rehearsal import example_arrays
from servable.tensors import Arrays, row_count, take
from servable.workflows.answered_sample import keep_answers
from servable.workflows.look import variant_rows
from servable.workflows.outcomes import VariantRow
from servable.workflows.recording import recorded
from servable.workflows.samples import SAMPLE_ROWS, Sample

#: Formats that are compiled already; there is nothing to convert them into.
COMPILED = frozenset({"onnx", "text"})


class Proving(NamedTuple):
    """What compiled forms of a model must reach to serve.

    Attributes:
        tolerance: largest difference of a probability or value at which a form counts as equal.
        lossy: what is tried beyond the equal forms.
    """

    tolerance: float = TOLERANCE
    lossy: Lossy = EXACT_ONLY


EQUAL = Proving()


@dataclass(frozen=True, eq=False, kw_only=True)
class Contents:
    """What goes into a package besides what compiling adds.

    Attributes:
        model: the name.
        adapter: name of the adapter that writes and loads the trained form.
        trained: the model.
        sample: rows for the proof, with their true answers where they are known.
        recipe: how it was trained.
        metrics: headline metrics.
        source: where it came from.
        trusted: whether a person allowed a form that executes code.
        evaluation: record for ``evaluation.json``, or None.
        profile: record for ``profile.json``, or None.
        report: makes ``report.html`` once the variants are known, or None.
        proving: what compiled forms must reach.
        told: what training was told, or None.
        tune: whether session options are searched.
        kept: rows that go into the package, for proofs made later, in place of the sample's; None for these.
        keeps_rows: whether any rows go into the package.
    """

    model: str
    adapter: str
    trained: Trained
    sample: Sample
    recipe: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    trusted: bool = False
    evaluation: Any = None
    profile: Any = None
    report: Callable[[tuple[VariantRow, ...]], str] | None = None
    proving: Proving = EQUAL
    told: Recipe | None = None
    tune: bool = True
    kept: Sample | None = None
    keeps_rows: bool = True


class Published(NamedTuple):
    """A registered version, its manifest and where its package lies."""

    record: VersionRecord
    manifest: Manifest
    folder: Path


def publish_model(home: Home, contents: Contents, *, progress: Progress) -> Published:
    """Make a package of a model and register it as the next version.

    When this returns, the version is durable; when it raises, the home is as it was before.

    Args:
        home: where to.
        contents: what is known.
        progress: told of every stage.

    Raises:
        StorageFull: no space left.
        StorageFailed: the storage failed.
    """
    with home.packages.staging() as folder:
        manifest = filled(folder, contents, progress=progress)
        progress.begin("Package and register")
        record = publish(home, folder, manifest)
        progress.done(f"{record.reference}, package {record.package[:12]}")
    home.sweep()
    return Published(record, manifest, home.packages.folder(record.package))


def filled(folder: Path, contents: Contents, *, progress: Progress) -> Manifest:
    """Write everything that a package of a model holds, the compiled and proven forms among it.

    Args:
        folder: an empty one.
        contents: what is known.
        progress: told of every stage.

    Returns:
        The head of the package, to seal or publish it with.

    Raises:
        StorageFull: no space left.
        StorageFailed: the storage failed.
    """
    variant = lookup.adapter(contents.adapter).write(contents.trained, folder)
    write_signature(folder, contents.trained.signature)
    if contents.keeps_rows:
        kept = anonymous(contents.kept or contents.sample, contents.trained.signature)
        keep_sample(folder, kept)
        keep_answers(folder, contents.trained, variant.format, kept.rows)
    if contents.evaluation is not None:
        hidden = frozenset(personal_choices(contents.trained.signature))
        write_json(folder, EVALUATION_FILE, evaluation_without(contents.evaluation, hidden))
    if contents.profile is not None:
        shown = profile_without_people(contents.trained.signature, contents.profile)
        write_json(folder, PROFILE_FILE, shown)
    if contents.told is not None:
        write_recipe(folder, contents.told)
    rows = contents.sample.rows
    found = compiled(contents.trained, variant, rows, folder, contents.proving, progress, tune=contents.tune)
    manifest = Manifest(
        model=contents.model,
        created_at=timestamp(SystemClock().now()),
        framework=contents.adapter,
        serving=found.serving,
        variants=recorded(contents.trained, found.variants, folder, trust=contents.trusted),
        refused=refused(found),
        libraries=dict(contents.trained.libraries),
        recipe=contents.recipe,
        metrics=contents.metrics,
        source=contents.source,
        # A pickle that could be written as skops needs no trust any more.
        trusted=contents.trusted and bool(variant.options.get(EXECUTES)),
        machine=machine(),
    )
    if contents.report is not None:
        (folder / REPORT_FILE).write_text(contents.report(variant_rows(manifest)), encoding="utf-8")
    return manifest


def compiled(
    trained: Trained,
    variant: Variant,
    sample: Arrays | None,
    folder: Path,
    proving: Proving,
    progress: Progress,
    *,
    tune: bool = True,
) -> Optimised:
    """All forms of a model with proofs, timings and session options.

    A model that is compiled already is only timed and tuned, and quantised where that is allowed, unless
    equal forms can be made of it. Without a sample the signature's example stands in for it, beside the rows
    made to be nasty.
    """
    rows = sample if sample is not None and row_count(sample) else example_arrays(trained.signature)
    if variant.format not in COMPILED or derived.exact([variant], folder):
        return optimise(
            trained,
            rows,
            folder,
            fallback=variant,
            tolerance=proving.tolerance,
            tune=tune,
            lossy=proving.lossy,
            progress=progress,
        )
    progress.begin("Tune for this machine", total=2)
    # The times of the defaults, so that what was found elsewhere does not count.
    options = {key: value for key, value in variant.options.items() if key != SESSION}
    bare = msgspec.structs.replace(variant, options=options)
    predictor = lookup.adapter(variant.format).load(folder, bare, trained.signature, trust=False)
    timed = msgspec.structs.replace(variant, timings=time_predictor(predictor, rows))
    predictor.close()
    progress.advance(note=f"one row takes {timed.timings[0].seconds * 1e6:,.0f} us")
    tunes = tune and variant.format in session.FORMATS
    tuned = session.Tuned(timed, "timed")
    if tunes:
        tuned = session.tune(folder, timed, rows, tolerance=proving.tolerance)
    progress.done(tuned.note)
    asked = partial(_questions, trained, variant, folder, take(rows, slice(0, MOST_ROWS)))
    subject = Subject(trained.signature, asked, folder, proving.tolerance, tune)
    more = proving.lossy.tried(subject, (tuned.variant,), progress)
    variants = (tuned.variant, *more.kept)
    return Optimised(variants, fastest(variants), more.refused, more.notes)


def _questions(trained: Trained, variant: Variant, folder: Path, rows: Arrays) -> Questions:
    """What is asked, with the answers of a model that is compiled already."""
    predictor = lookup.adapter(variant.format).load(folder, variant, trained.signature, trust=False)
    try:
        return Questions(trained, predictor, rows)
    finally:
        predictor.close()


def anonymous(sample: Sample, signature: Signature) -> Sample:
    """The sample as a package may keep it: stand-ins for what is personal, and then without the truth.

    The true answers are those to other rows, so what is measured with them later would mislead.
    """
    if sample.rows is None or not personal_choices(signature):
        return sample
    return Sample(without_people(signature, sample.rows))


def evaluation_without(evaluation: Any, hidden: frozenset[str]) -> Any:
    """An evaluation without values of some columns."""
    if not hidden:
        return evaluation
    from servable.training.hiding import without

    return without(evaluation, hidden)


def keep_sample(folder: Path, sample: Sample) -> None:
    """Put sample rows, and their true answers, into a package that is being made, for proofs made later.

    Raises:
        StorageFull: no space left.
        StorageFailed: the storage failed.
    """
    if sample.rows is None or not row_count(sample.rows):
        return
    write_sample(folder, take(sample.rows, slice(0, SAMPLE_ROWS)))
    if sample.truth is not None:
        write_truth(folder, sample.truth[:SAMPLE_ROWS])


def refused(found: Optimised) -> tuple[Variant, ...]:
    """The forms that do not serve, for the manifest: refused by the proof, or impossible to make."""
    impossible = []
    for note in found.notes:
        name, _, reason = note.partition(": ")
        impossible.append(Variant(name=name, format=name.partition("-")[0], path="", note=reason))
    return (*found.refused, *impossible)
