"""Session options of onnxruntime: what a package keeps for each kind of machine, read with suspicion.

A variant keeps what the search of ``optimization.session`` found on the machines where it was
optimised::

    options["session"] = {"<kind of machine>": {"threads": 2, "slots": 1, "arena": true,
        "patterns": true, "level": "all", "provider": "CPUExecutionProvider", "seconds": 0.0031}}

A package is foreign input: an entry that is damaged, unknown or made on another kind of machine means
the defaults, never an error, because every model runs with the defaults too.
"""

import os
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import onnxruntime as ort

#: The key of ``Variant.options`` under which the entries lie.
SESSION = "session"
#: The provider that every onnxruntime has.
CPU = "CPUExecutionProvider"
#: The provider that computes on GPUs of NVIDIA.
CUDA = "CUDAExecutionProvider"
_FATAL_ONLY = 4
#: More threads or slots than this are no finding of ours.
_MOST = 256
#: Providers worth trying where onnxruntime has them. Others are remote, or compile for minutes.
_TRIED = (
    CUDA,
    "ROCMExecutionProvider",
    "OpenVINOExecutionProvider",
    "DnnlExecutionProvider",
    "DmlExecutionProvider",
    "CoreMLExecutionProvider",
)
_LEVELS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
}

Level = Literal["all", "extended", "basic"]
_Count = Annotated[int, msgspec.Meta(ge=1, le=_MOST)]


class SessionChoice(msgspec.Struct, frozen=True, kw_only=True):
    """How a session is opened and fed; the defaults suit every short model.

    Attributes:
        threads: threads within one run.
        slots: runs at once for the most rows a second, each with ``threads`` threads.
        arena: whether freed memory is kept for the next run.
        patterns: whether memory of a run is laid out beforehand; helps where shapes stay the same.
        level: how far onnxruntime rewrites the graph.
        provider: what executes it.
        seconds: median time of one row when it was chosen; 0 when nothing was measured.
    """

    threads: _Count = 1
    slots: _Count = 1
    arena: bool = True
    patterns: bool = True
    level: Level = "all"
    provider: Annotated[str, msgspec.Meta(max_length=64)] = CPU
    seconds: Annotated[float, msgspec.Meta(ge=0.0)] = 0.0


DEFAULT = SessionChoice()


@cache
def kind_of_machine() -> str:
    """What a finding holds for: processor, usable cores, onnxruntime and what it can execute on."""
    providers = "+".join(name.removesuffix("ExecutionProvider") for name in ort.get_available_providers())
    return f"{processor()}, {usable_cores()} cores, onnxruntime {ort.__version__}, {providers}"


@cache
def processor() -> str:
    """The processor's model."""
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def other_providers() -> tuple[str, ...]:
    """Execution providers of this machine that are worth trying besides the processor."""
    return tuple(name for name in _TRIED if name in ort.get_available_providers())


def stored_choice(options: Mapping[str, Any], machine: str | None = None) -> SessionChoice | None:
    """What a variant's options keep for a kind of machine; None when there is nothing that can be used.

    Args:
        options: ``Variant.options``.
        machine: see ``kind_of_machine``; this one when None.
    """
    entries = options.get(SESSION)
    if not isinstance(entries, Mapping) or not entries:
        return None
    entry = entries.get(kind_of_machine() if machine is None else machine)
    if not isinstance(entry, Mapping):
        return None
    try:
        # Keys of a newer program are passed over; the values must be what they should be.
        choice = msgspec.convert(dict(entry), SessionChoice)
    except msgspec.ValidationError:
        return None
    return choice if choice.provider in (CPU, *other_providers()) else None


def in_words(choice: SessionChoice) -> str:
    """A choice in words: what differs from the defaults."""
    words = []
    if choice.threads > 1:
        words.append(f"{choice.threads} threads in a run")
    if choice.slots > 1:
        words.append(f"{choice.slots} runs at once")
    if not choice.arena:
        words.append("no memory arena")
    elif not choice.patterns:
        words.append("no memory pattern")
    if choice.level != "all":
        words.append(f"{choice.level} graph optimisation")
    if choice.provider != CPU:
        words.append(choice.provider)
    return ", ".join(words) or "the default options"


def session_options(choice: SessionChoice) -> ort.SessionOptions:
    """A choice as the record that onnxruntime takes."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = choice.threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _FATAL_ONLY
    options.enable_cpu_mem_arena = choice.arena
    options.enable_mem_pattern = choice.patterns
    options.graph_optimization_level = _LEVELS[choice.level]
    # Threads that spin between runs take the cores from the event loop and from other models.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
