"""``add``: take in a model trained elsewhere, compile it, prove it, register it."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from servable.artifact.personal import with_personal
from servable.artifact.signature import Signature, with_captures
from servable.errors import DataError, InputError
from servable.frameworks import lookup, python_source
from servable.frameworks.base import NO_HINTS, Container, Hints, Trained
from servable.frameworks.python_model import Model
from servable.progress import NoProgress, Progress
from servable.registry.references import checked_name
from servable.workflows.homes import Destination, opened
from servable.workflows.look import variant_rows
from servable.workflows.losses import Allowance, allowance
from servable.workflows.outcomes import AddOutcome
from servable.workflows.packaging import Contents, Proving, Published, publish_model
from servable.workflows.personal import choices, sentences, suspects
from servable.workflows.samples import Sample, file_sample, names_files, packed_rows, truth_in
from servable.workflows.signers import check_new, signer_of
from servable.workflows.sources import FITTED, model_digest, model_path, need_extra, table_of

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from servable.artifact.loss import MaxLoss


def add(
    model: Any,
    *,
    name: str,
    sample: "str | Path | pd.DataFrame | NDArray[Any] | Sequence[Any] | None" = None,
    target: str | None = None,
    hints: Hints = NO_HINTS,
    trust: bool = False,
    tolerance: float = 1e-4,
    max_loss: "MaxLoss | str | None" = None,
    private: Mapping[str, str] | None = None,
    personal: Sequence[str] | Mapping[str, str] | None = None,
    deploy: bool = False,
    sign_key: str | Path | None = None,
    home: str | Path | None = None,
    progress: Progress | None = None,
) -> AddOutcome:
    """Take in a model trained elsewhere.

    Args:
        model: the path of a model file or folder, see ``lookup.KNOWN`` (``model.py:Sentiment`` names a class
            in its file), a fitted estimator, or a class, an object or a function of plain Python.
        name: the model under which the version is registered.
        sample: rows that the model accepts: a CSV or Parquet file, a DataFrame, an array or a list of rows,
            whose columns have the model's names, else ``x0``, ``x1`` ... It gives names, kinds, ranges and
            the example, and the rows on which compiled forms are proven. For a model that takes pictures or
            sounds it may be a folder of them or a CSV of their paths, for one text a folder.
        target: the sample's column that holds the answer and is no input. The answers are kept for proofs.
        hints: what the file does not say: task, inputs, labels, the class or function that belongs to it.
        trust: whether code in the file may run; a pickle can do anything that the caller can.
        tolerance: largest difference of a probability or value at which a compiled form counts as equal.
        max_loss: the most that a lossy form may be worse on the sample, such as ``accuracy=0.005``; None
            tries none. It needs the true answers: ``target``, or a folder with one folder for each class.
        private: what becomes of columns where traffic is captured: ``keep``, ``hash``, ``encrypt`` or
            ``drop`` by name.
        personal: columns that say who somebody is: no value of theirs is kept in the package, and captured
            traffic has them dropped, or as said by name: ``hash`` or ``encrypt``.
        deploy: whether the version is deployed at once.
        sign_key: a file with the private key that the version is signed with; None for that of ``sign_key``.
        home: the folder of the registry; looked up, and made, when it does not exist.
        progress: told of every stage.

    Raises:
        FileMissing: there is no such file.
        ArtifactUnreadable: the file is empty, truncated, or not what its name says.
        ArtifactUntrusted: opening it would execute code and ``trust`` is false; nothing was executed.
        ArtifactUnsupported: nothing here reads such files.
        DependencyMissing: a library that it needs is not installed.
        DataError: the sample does not fit the model, or a loss needs true answers and there are none.
        SettingInvalid: no largest loss, or of a metric that is not measured for this model.
        SignatureRefused: what is deployed must be signed here, and there is no key, or one not trusted.
        StorageFull: no space left; the home is as it was before.
    """
    python_source.refuse_while_importing()
    offered = _Offered(
        model, sample, target, hints, trust, tolerance, allowance(max_loss), private or {}, choices(personal)
    )
    signer = signer_of(sign_key, home, deploy=deploy)
    return _added(offered, Destination(checked_name(name), deploy, home, signer), progress or NoProgress())


class _Offered(NamedTuple):
    """A model and what is said about it; see ``add``."""

    model: Any
    sample: "str | Path | pd.DataFrame | NDArray[Any] | Sequence[Any] | None"
    target: str | None
    hints: Hints
    trust: bool
    tolerance: float
    allowed: Allowance
    private: Mapping[str, str]
    personal: Mapping[str, str]


def _added(offered: _Offered, destination: Destination, progress: Progress) -> AddOutcome:
    """See ``add``."""
    model, sample, target, hints, trust, tolerance, allowed, private, personal = offered
    progress.begin("Read the model")
    named = [str(name) for name in getattr(model, "feature_names_in_", ())]
    table = None if sample is None or names_files(sample, target) else table_of(sample, names=named)[0]
    rows = None if table is None else _without(table, target)
    framework, trained, source = _taken_in(model, rows, trust, hints)
    if target is not None:
        trained = _with_target(trained, target)
    if private:
        trained = trained._replace(signature=with_captures(trained.signature, private))
    trained = trained._replace(signature=with_personal(trained.signature, personal))
    allowed.check(trained.signature)
    held = _held(sample, table, target, trained.signature, needs_truth=allowed.needs_truth)
    progress.done(f"{framework}, {trained.signature.task}, {len(trained.signature.inputs)} inputs")
    contents = Contents(
        model=destination.name,
        adapter=framework,
        trained=trained,
        sample=held,
        source=source,
        # Whoever hands in an object has run its code already.
        trusted=trust or not isinstance(model, str | Path),
        proving=Proving(tolerance, allowed.lossy(trained.signature, held.truth)),
    )
    with opened(destination.home, create=True) as place:
        published = publish_model(place, contents, progress=progress)
        destination.signer.sign(place, published.record)
        if destination.deploy:
            check_new(place, published.record)
            place.deployments.deploy(destination.name, published.record.version)
    outcome = _outcome(published, framework, trained.signature, destination.deploy)
    return msgspec.structs.replace(outcome, suspects=tuple(sentences(suspects(trained.signature, held.rows))))


def _outcome(published: Published, framework: str, signature: Signature, deployed: bool) -> AddOutcome:
    return AddOutcome(
        model=published.record.model,
        version=published.record.version,
        framework=framework,
        task=signature.task,
        inputs=tuple(field.name for field in signature.inputs),
        serving=published.manifest.serving,
        variants=variant_rows(published.manifest),
        package=str(published.folder),
        note=published.manifest.variant("trained").note,
        deployed=deployed,
    )


def _taken_in(model: Any, rows: Any, trust: bool, hints: Hints) -> tuple[str, Trained, dict[str, Any]]:
    """The framework's name, the model and where it came from."""
    if isinstance(model, str | Path):
        given, entry = python_source.split(model)
        path = model_path(given)
        hints = hints._replace(entry=f"{path}:{entry}") if entry else hints
        framework, place = lookup.framework_of(path), path
        source = {"model": path.name, "sha256": model_digest(path)}
        adapter = lookup.adapter(framework)
        found = adapter.inside(path, sample=rows, hints=hints) if isinstance(adapter, Container) else None
        if found is not None:
            source["container"] = framework
            framework, place, rows, hints = found
        if framework in FITTED:
            need_extra()
        return framework, lookup.adapter(framework).read(place, sample=rows, trust=trust, hints=hints), source
    if inspect.isclass(model) or inspect.isfunction(model) or isinstance(model, Model):
        from servable.frameworks import python

        trained = python.ADAPTER.take(model, sample=rows, hints=hints)
        return "python", trained, {"model": trained.model.where}
    need_extra()
    if _is_river(model):
        # It is in memory, so its library is there.
        from servable.frameworks import river

        trained = river.ADAPTER.take(model, sample=rows, hints=hints)
        return "river", trained, {"model": type(model).__name__}
    from servable.frameworks import sklearn

    if not hasattr(model, "predict"):
        raise InputError(
            f"{type(model).__name__} is neither the path of a model file, nor a fitted estimator with "
            "predict, nor a model in Python (servable.Model)."
        )
    return "sklearn", sklearn.ADAPTER.take(model, sample=rows), {"model": type(model).__name__}


def _is_river(model: Any) -> bool:
    """Whether an object is an estimator of River, which need not be imported to see that."""
    return any(kind.__module__.partition(".")[0] == "river" for kind in type(model).__mro__) and not hasattr(
        model, "predict"
    )


def _without(frame: Any, target: str | None) -> Any:
    if target is None:
        return frame
    from servable.training.columns import close_names

    if target not in frame.columns:
        known = [str(name) for name in frame.columns]
        raise DataError(f"The sample has no column {target!r}; {close_names(target, known)}")
    return frame.drop(columns=[target])


def _with_target(trained: Trained, target: str) -> Trained:
    """The model with its answer under the name that the data uses, so that it can be evaluated later."""
    first, *others = trained.signature.outputs
    outputs = (msgspec.structs.replace(first, name=target), *others)
    return trained._replace(signature=msgspec.structs.replace(trained.signature, outputs=outputs))


def _held(sample: Any, table: Any, target: str | None, signature: Signature, *, needs_truth: bool) -> Sample:
    """The sample in packed form, with its true answers where they are known."""
    if sample is None:
        return Sample()
    if table is None:
        return file_sample(Path(sample), signature, target, needs_truth=needs_truth)
    rows = packed_rows(_without(table, target), signature)
    if rows is None or target is None:
        return Sample(rows)
    return Sample(rows, truth_in(table, signature, target, needs_truth=needs_truth))
