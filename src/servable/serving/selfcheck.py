"""The last check before a version takes requests: does it answer its example as it did when it was made?

The package keeps the example as the model takes it and the answers of its forms. A form that was proven equal
must give the answer of the trained one within the tolerance of its proof; one that differs on purpose has an
answer of its own. A package without them is older than this check and passes; a form whose answers differ
from run to run says so in the manifest and passes too.
"""

import asyncio
from pathlib import Path

from servable.artifact.manifest import TRAINED, Variant
from servable.artifact.package import read_outline
from servable.artifact.selfcheck import Recorded, read_recorded
from servable.errors import SelfCheckFailed
from servable.frameworks.devices import PROCESSOR
from servable.optimization.parity import TOLERANCE, compare
from servable.runtime.executor import Executor, run_batch
from servable.runtime.framing import Load
from servable.runtime.model import LoadedModel
from servable.tensors import PROBABILITIES, Arrays

#: Tolerance of an answer that a GPU computes: it multiplies with fewer digits than a processor.
ON_GPU = 1e-2
#: A lossy form may differ from itself on another processor by what it differed from the trained one, up to
#: here.
_LOOSEST = 0.1


async def check(loaded: LoadedModel, recorded: Recorded | None) -> None:
    """Ask a loaded model for its example and hold the answer against the recorded one.

    Args:
        loaded: nothing runs in its executor.
        recorded: what its package keeps; None when it keeps nothing.

    Raises:
        SelfCheckFailed: the answer is another one.
        ModelFailed: it does not answer.
        ModelDied: its process ended over it.
    """
    name = loaded.package.manifest.model
    await _check(name, loaded.variant, loaded.executor, loaded.device.device, recorded)


async def check_moved(load: Load, executor: Executor, device: str) -> None:
    """The same for a model that a keeper moves; see ``runtime.shared.Check``.

    Raises:
        SelfCheckFailed: the answer is another one.
        ModelFailed: it does not answer.
        ModelDied: its process ended over it.
        ArtifactUnreadable: its package is not there any more.
    """
    folder = Path(load.folder)
    manifest = (await asyncio.to_thread(read_outline, folder)).manifest
    recorded = await asyncio.to_thread(read_recorded, folder)
    await _check(manifest.model, manifest.variant(load.variant), executor, device, recorded)


async def _check(
    name: str, variant: Variant, executor: Executor, device: str, recorded: Recorded | None
) -> None:
    expected = expected_of(variant, recorded)
    if recorded is None or expected is None:
        return
    given = await run_batch(executor, recorded.row)
    wrong = difference(expected, given, tolerance_of(variant, device))
    if wrong:
        raise SelfCheckFailed(
            f"{name} answers its example otherwise than when it was made ({wrong}); if that is meant, record "
            f"it anew with: servable optimize {name}."
        )


def expected_of(variant: Variant, recorded: Recorded | None) -> Arrays | None:
    """What a variant must answer; None where nothing is known. Pure."""
    if recorded is None or variant.unchecked:
        return None
    equal = variant.proof is not None and variant.proof.equal
    return recorded.answers.get(TRAINED if equal else variant.name)


def tolerance_of(variant: Variant, device: str) -> float:
    """How far a variant's answer may be from the recorded one on a device. Pure."""
    proof = variant.proof
    allowed = TOLERANCE if proof is None else proof.tolerance
    if proof is not None and not proof.equal:
        allowed = max(allowed, min(proof.worst_difference, _LOOSEST))
    return allowed if device == PROCESSOR else max(allowed, ON_GPU)


def difference(expected: Arrays, given: Arrays, tolerance: float) -> str:
    """What tells an answer from the recorded one; empty when nothing does. Pure.

    Another label is none where all probabilities agree: the example then lies on the border between two
    classes, and another processor may see it on the other side.
    """
    proof = compare(expected, given, tolerance=tolerance)
    border = PROBABILITIES in expected and proof.worst_difference <= tolerance
    if proof.equal or (border and proof.label_differences):
        return ""
    return proof.reason.replace("1 of 1 rows get another label", "it gets another label")
