"""From a package to something that answers: load, warm up, check itself, choose where to run."""

import time
from typing import NamedTuple

from servable.artifact.manifest import Variant
from servable.artifact.package import Package
from servable.artifact.signature import Signature
from servable.errors import ArtifactUnreadable
from servable.frameworks import lookup
from servable.frameworks.base import Predictor
from servable.runtime.executor import Executor, InlineExecutor, ThreadExecutor
from servable.runtime.rehearsal import rehearse

#: A compiled model whose single row takes no longer than this runs in the event loop itself; a thread
#: hop costs some 30 µs and holds up nobody.
INLINE_SECONDS = 500e-6
#: Formats whose graphs are declarative, so that running one in the event loop cannot surprise.
_DECLARATIVE = frozenset({"onnx"})


class LoadedModel(NamedTuple):
    """A variant that has answered its own example and waits for requests.

    Attributes:
        package: what it was loaded from.
        signature: the package's.
        variant: the form that was loaded.
        executor: where it runs; close it to give everything back.
        placement: ``inline`` or ``thread``.
        reason: one sentence: why there.
        example_seconds: the median time of one row.
        load_seconds: reading, warming up and checking together.
    """

    package: Package
    signature: Signature
    variant: Variant
    executor: Executor
    placement: str
    reason: str
    example_seconds: float
    load_seconds: float


def load_model(package: Package, *, variant: str | None = None) -> LoadedModel:
    """Make a variant of a verified package ready to answer.

    Blocks for as long as the load takes; call it from a thread when an event loop waits.

    Args:
        package: as ``open_package`` gave it.
        variant: name of a variant; the one that the manifest chose when None.

    Raises:
        ArtifactUnreadable: no such variant, or its answers do not fit the signature.
        ArtifactUntrusted: the form executes code and nobody allowed it.
        DependencyMissing: its library is not installed.
        ModelFailed: it raised on its own example.
    """
    started = time.perf_counter()
    manifest, signature = package.manifest, package.signature
    try:
        chosen = manifest.variant(variant or manifest.serving)
    except KeyError as error:
        known = ", ".join(each.name for each in manifest.variants)
        raise ArtifactUnreadable(f"{manifest.model} has no variant {error}; it has {known}.") from error
    adapter = lookup.adapter(chosen.format)
    predictor = adapter.load(package.folder, chosen, signature, trust=manifest.trusted)
    try:
        seconds = rehearse(predictor, signature, manifest.model)
    except BaseException:
        predictor.close()
        raise
    executor, placement, reason = _place(predictor, chosen, seconds, manifest.model)
    elapsed = time.perf_counter() - started
    return LoadedModel(package, signature, chosen, executor, placement, reason, seconds, elapsed)


def _place(predictor: Predictor, variant: Variant, seconds: float, model: str) -> tuple[Executor, str, str]:
    micros = f"one row takes {seconds * 1e6:.0f} µs"
    if variant.format in _DECLARATIVE and seconds <= INLINE_SECONDS:
        return InlineExecutor(predictor), "inline", f"{micros} and the graph is declarative"
    why = "which would hold up the event loop" if seconds > INLINE_SECONDS else "and it runs Python code"
    return ThreadExecutor(predictor, model), "thread", f"{micros}, {why}"
