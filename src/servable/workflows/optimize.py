"""``optimize``: compile a version anew, prove each form, and let the fastest that is equal serve."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from servable.artifact.manifest import SAMPLE_FILE, TRAINED, TRUTH_FILE, Variant
from servable.artifact.package import Package
from servable.clock import SystemClock, timestamp
from servable.frameworks import lookup
from servable.frameworks.base import Trained
from servable.optimization.forms import FOLDER
from servable.optimization.measure import machine
from servable.optimization.session import with_findings
from servable.progress import NoProgress, Progress
from servable.registry.home import Home, republish
from servable.registry.records import VersionRecord
from servable.workflows.answered_sample import keep_answers
from servable.workflows.homes import opened
from servable.workflows.look import variant_rows
from servable.workflows.losses import Allowance, allowance
from servable.workflows.outcomes import OptimizeOutcome
from servable.workflows.packaging import Proving, compiled, keep_sample, refused
from servable.workflows.recording import recorded
from servable.workflows.samples import Sample, file_sample, kept_sample, names_files, table_sample
from servable.workflows.signers import check_new, signer_of
from servable.workflows.sources import FITTED, file_digest, need_extra

if TYPE_CHECKING:
    import pandas as pd

    from servable.artifact.loss import MaxLoss


def optimize(
    reference: str,
    *,
    sample: "str | Path | pd.DataFrame | None" = None,
    target: str | None = None,
    tolerance: float = 1e-4,
    max_loss: "MaxLoss | str | None" = None,
    home: str | Path | None = None,
    progress: Progress | None = None,
) -> OptimizeOutcome:
    """Compile a version anew, on this machine; its number stays, its package becomes a new one.

    Args:
        reference: ``name`` (the newest version), ``name:3`` or ``name@alias``.
        sample: rows for the proof: a table, a folder of pictures, sounds or texts, or a CSV of paths of
            pictures or sounds; those kept in the package when None.
        target: the sample's column with the true answers, if it is not named as the model's answer.
        tolerance: largest difference of a probability or value at which a compiled form counts as equal.
        max_loss: the most that a lossy form may be worse, such as ``accuracy=0.005``; None tries none.
        home: the folder of the registry; looked up when None.
        progress: told of every stage.

    Raises:
        ModelNotFound: there is no such model.
        VersionNotFound: it has no such version or alias.
        ConflictError: somebody else gave the version another package meanwhile.
        ArtifactTampered: a file of the package differs from its digest.
        DataError: the sample does not fit the signature, or a loss needs true answers and there are none.
        SettingInvalid: no largest loss, or of a metric that is not measured for this model.
        SignatureRefused: it is deployed and must be signed here, and there is no key, or one not trusted; or
            it was gone back to, and the leave for that names its former package.
        StorageFull: no space left; the home is as it was before.
    """
    given = _Given(sample, target, allowance(max_loss))
    return _optimised(reference, given, tolerance, home, progress or NoProgress())


class _Given(NamedTuple):
    """What proves the forms: rows, the column with their true answers, and what lossy forms may cost."""

    sample: "str | Path | pd.DataFrame | None"
    target: str | None
    allowed: Allowance


def _optimised(
    reference: str, given: _Given, tolerance: float, home: str | Path | None, progress: Progress
) -> OptimizeOutcome:
    """See ``optimize``."""
    with opened(home) as place:
        record = place.models.resolve(reference)
        package = place.package(record)
        deployed = _is_deployed(place, record)
        signer = signer_of(None, place.path, deploy=deployed)
        given.allowed.check(package.signature)
        held = _sample(package, given, record.reference)
        proving = Proving(tolerance, given.allowed.lossy(package.signature, held.truth))
        with place.packages.staging() as folder:
            trained = _copied(package, folder, held)
            variant = package.manifest.variant(TRAINED)
            found = compiled(trained, variant, held.rows, folder, proving, progress)
            found = found._replace(variants=_with_findings(found.variants, package, folder))
            manifest = msgspec.structs.replace(
                package.manifest,
                model=record.model,
                created_at=timestamp(SystemClock().now()),
                variants=recorded(trained, found.variants, folder, trust=package.manifest.trusted),
                refused=refused(found),
                serving=found.serving,
                machine=machine(),
                files=(),
            )
            progress.begin("Package and register")
            after = republish(place, folder, manifest, record, reason="optimize")
            signer.sign(place, after)
            if deployed:
                check_new(place, after)
            progress.done(f"{after.reference}, package {after.package[:12]}")
    table = variant_rows(manifest)
    return OptimizeOutcome(
        model=after.model,
        version=after.version,
        serving=found.serving,
        variants=table,
        tolerance=tolerance,
        rows_compared=max((row.rows_compared for row in table), default=0),
        machine=manifest.machine,
    )


def _is_deployed(home: Home, record: VersionRecord) -> bool:
    """Whether a version answers requests, or copies of them, so that servers will load its new package."""
    deployment = home.deployments.get(record.model)
    if deployment is None:
        return False
    return record.version == deployment.version or record.version in deployment.traffic.versions


def _with_findings(made: tuple[Variant, ...], package: Package, folder: Path) -> tuple[Variant, ...]:
    """The variants with the session options that were found on other machines for the very same files."""
    former = {variant.path: variant for variant in package.manifest.variants}
    digests = {entry.path: entry.sha256 for entry in package.manifest.files}
    return tuple(
        with_findings(variant, former[variant.path])
        # A trained form that is a folder has no findings: they are of single ONNX files.
        if variant.path in former
        and variant.path in digests
        and (folder / variant.path).is_file()
        and file_digest(folder / variant.path) == digests[variant.path]
        else variant
        for variant in made
    )


def _sample(package: Package, given: _Given, reference: str) -> Sample:
    """Rows for the proof: those given, else those of the package, else none."""
    sample, target, allowed = given
    signature, needed = package.signature, allowed.needs_truth
    if sample is None:
        return kept_sample(package.folder)
    if names_files(sample, target):
        return file_sample(Path(str(sample)), signature, target, needs_truth=needed, reference=reference)
    return table_sample(sample, signature, target, needs_truth=needed)


def _copied(package: Package, folder: Path, sample: Sample) -> Trained:
    """The package without its compiled variants in a staging folder, and its trained model in memory."""
    former = tuple(f"{each.path.rstrip('/')}/" for each in package.manifest.variants if each.name != TRAINED)
    for entry in package.manifest.files:
        # Beside a variant's own file may lie others that belong to it, such as a tokenizer.
        if not f"{entry.path}/".startswith((f"{FOLDER}/", *former)):
            target = folder / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(package.folder / entry.path, target)
    # Rows whose true answers are known are worth more than rows without.
    told = sample.truth is not None and not (folder / TRUTH_FILE).is_file()
    others = told or not (folder / SAMPLE_FILE).is_file()
    if others:
        keep_sample(folder, sample)
    variant = package.manifest.variant(TRAINED)
    if variant.format in FITTED:
        need_extra()
    restored = lookup.adapter(variant.format).restore(
        folder, variant, package.signature, trust=package.manifest.trusted
    )
    if others:
        keep_answers(folder, restored, variant.format, sample.rows)
    return restored._replace(libraries=package.manifest.libraries)
