"""Where a variant runs: inline, thread or process. ``place`` is pure; the loader measures and obeys."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from servable.artifact.manifest import Variant
from servable.errors import SurroundingsError
from servable.frameworks.devices import AUTO, ON_GPUS, may_use_gpu
from servable.registry.policy import Policy

#: A compiled model whose single row takes no longer than this runs in the event loop itself; a thread
#: hop costs some 30 µs and holds up nobody.
INLINE_SECONDS = 500e-6
#: Runs of a compiled model at once where no search has found the best number: they release the lock of
#: the interpreter, so each core takes one.
_USUAL_SLOTS = 8
#: Formats that hold data and no code, so that running one in the server cannot surprise.
DECLARATIVE = frozenset({"onnx", "openvino", "text"})
#: Those of them whose cost is a matter of the single row: a text may be of any length, so they run in a
#: thread however short the example is, and one at a time, because they hold the interpreter.
UNEVEN = frozenset({"text"})
_THERE = {"inline": "in the event loop", "thread": "in threads of the server"}
#: Formats that are code of the model's author, which never runs in the server, whatever a policy says.
ISOLATED = frozenset({"mlflow", "python"})


class Placed(NamedTuple):
    """Where a variant runs.

    Attributes:
        kind: ``inline``, ``thread`` or ``process``.
        slots: batches at once: threads of a thread executor, children of a process executor.
        reason: one sentence for people, without a full stop.
    """

    kind: str
    slots: int
    reason: str


def place(
    *,
    format: str,  # noqa: A002 - the manifest's own word for it
    example_seconds: float | None,
    policy: Policy,
    options: Mapping[str, Any],
    cores: int,
    shared: bool = False,
    confined: bool = False,
) -> Placed:
    """Say where a variant runs.

    Ask with ``example_seconds=None`` before anything is loaded: the answer is ``process`` exactly when the
    server must not load the variant itself. Ask again once one row was timed.

    Args:
        format: the variant's format.
        example_seconds: median time of one row in this process; None when it was not measured.
        policy: the deployment's wishes, which win.
        options: what the search for session options found for this kind of machine, as
            ``found_here`` gives it; empty when nothing was found.
        cores: cores that this server process may keep busy, at least 1.
        shared: whether all workers of the server use the same processes of it.
        confined: whether it must be confined, which only a process can be.

    Raises:
        SurroundingsError: it must be confined, and its deployment wants it in the server itself.
    """
    if shared:
        return _process(policy, "all workers share it")
    declarative = format in DECLARATIVE
    # Whether it lets go of the interpreter while it computes.
    released = declarative and format not in UNEVEN
    if format in ISOLATED:
        return _process(policy, "it is code of its author, which stays out of the server")
    if confined and policy.executor in _THERE:
        raise SurroundingsError(
            f"A model that runs {_THERE[policy.executor]} cannot be confined, which the setting confinement "
            "wants; deploy it with --executor process."
        )
    if confined and policy.executor == "auto":
        return _process(policy, "it must be confined, which only a process can be")
    if policy.executor == "auto":
        if not declarative:
            return _process(policy, "it runs Python code, which would hold up the server")
        if not released:
            return _thread(policy, options, cores, "a text may be of any length", declarative=False)
        if example_seconds is None:
            return _thread(policy, options, cores, "its time is not known before it is loaded")
        if example_seconds <= INLINE_SECONDS:
            return Placed("inline", 1, f"one row takes {said(example_seconds)} and the graph is declarative")
        return _thread(
            policy, options, cores, f"one row takes {said(example_seconds)}, too long for the event loop"
        )
    if policy.executor == "process":
        return _process(policy, "the deployment asks for it")
    if policy.executor == "thread":
        reason = f"the deployment asks for it{_lock(released)}"
        return _thread(policy, options, cores, reason, declarative=released)
    return Placed("inline", 1, f"the deployment asks for it{_held_up(released, example_seconds)}")


def found_here(variant: Variant) -> Mapping[str, Any]:
    """What the search for session options found for this variant on machines like this one.

    Empty when there is nothing. Reads what this machine is, so it is not pure; the first call for a
    variant of ONNX imports onnxruntime.
    """
    if variant.format != "onnx":
        return {}
    from servable.frameworks.onnx_session import stored_choice  # Lazily: see above.

    choice = stored_choice(variant.options)
    return {} if choice is None else msgspec.structs.asdict(choice)


def on_gpu(variant: Variant, device: str) -> bool:
    """Whether a variant will run on a GPU, as far as this machine tells before it is loaded.

    Args:
        variant: to be loaded.
        device: what should compute it: ``auto cpu cuda cuda:1``.
    """
    if variant.format not in ON_GPUS or not may_use_gpu(device):
        return False
    if variant.format != "onnx":
        return True
    from servable.frameworks.onnx_session import CUDA, other_providers  # Lazily: see above.

    if device == AUTO:
        return found_here(variant).get("provider") == CUDA
    return CUDA in other_providers()


def said(seconds: float) -> str:
    """A duration as a person reads it best."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1.0 else f"{seconds:.1f} s"


def _process(policy: Policy, reason: str) -> Placed:
    count = max(policy.processes, 1)
    return Placed("process", count, f"{reason}; {count} processes" if count > 1 else reason)


def _thread(
    policy: Policy, options: Mapping[str, Any], cores: int, reason: str, *, declarative: bool = True
) -> Placed:
    count = policy.threads
    if count <= 0:
        # More runs at once than cores only lengthen each other.
        found = options.get("slots", _USUAL_SLOTS if declarative else 1)
        count = max(min(found if isinstance(found, int) else 1, cores), 1)
    return Placed("thread", count, f"{reason}; {count} batches at once" if count > 1 else reason)


def _lock(declarative: bool) -> str:
    return "" if declarative else ", although its Python code holds up the server meanwhile"


def _held_up(declarative: bool, seconds: float | None) -> str:
    if seconds is not None and seconds > INLINE_SECONDS:
        return f", although one row takes {said(seconds)}, in which nothing else is answered"
    return "" if declarative else ", although its Python code holds up the server meanwhile"
