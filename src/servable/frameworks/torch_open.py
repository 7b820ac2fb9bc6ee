"""Opening the files of PyTorch: exported programs, TorchScript, and weights for a class of the user's.

Nothing is executed that a file brings along unless the caller trusts it: see ``artifact.torch_files``. A
pickle is opened with ``weights_only`` and never otherwise, trusted or not.
"""

import contextlib
import importlib
import importlib.util
import inspect
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from servable.artifact import torch_files
from servable.artifact.audit import Audit, audit_file, beyond_weights, refusal
from servable.errors import (
    ArtifactUnreadable,
    ArtifactUnsupported,
    ArtifactUntrusted,
    DependencyMissing,
    FileMissing,
    ServableError,
    SettingInvalid,
)

Style = Literal["program", "script", "weights"]


class Argument(NamedTuple):
    """One tensor that a model takes; what its file does not say is empty.

    Attributes:
        name: of the argument.
        dtype: numpy's name; empty when unknown.
        shape: with the row axis, -1 for free; None when unknown.
        example: a tensor that it was exported with, or None.
    """

    name: str
    dtype: str = ""
    shape: tuple[int, ...] | None = None
    example: torch.Tensor | None = None


class Opened(NamedTuple):
    """A model in memory.

    Attributes:
        module: takes the arguments in order, gives tensors; in evaluation mode where that exists.
        style: what it was opened from.
        arguments: what it takes.
        names: of its outputs; empty when only running it tells.
        source: its file.
        entry: the class that was executed, as it was given; empty for none.
        files: that lay beside it.
        executes: whether opening it executed code that somebody trusts.
    """

    module: Callable[..., Any]
    style: Style
    arguments: tuple[Argument, ...]
    names: tuple[str, ...]
    source: Path
    entry: str = ""
    files: tuple[Path, ...] = ()
    executes: bool = False


def open_model(path: Path, *, trust: bool, entry: str = "", files: tuple[Path, ...] = ()) -> Opened:
    """A model from its file.

    Args:
        path: ``.pt2``, ``.pt``, ``.pth`` or ``.safetensors``; its content decides.
        trust: whether code may run: the file of ``entry``, or what a program asks for besides arithmetic.
        entry: class or function that makes the module whose weights the file holds.
        files: modules and data that the entry needs beside it.

    Raises:
        ArtifactUnreadable: empty, truncated, or not what its name says.
        ArtifactUntrusted: it would execute code and ``trust`` is false; nothing was executed.
        ArtifactUnsupported: weights without a class.
        SettingInvalid: the entry does not make such a module.
        DependencyMissing: a library is not installed.
    """
    if not path.stat().st_size:
        raise ArtifactUnreadable(f"{path.name} is empty (0 bytes); save or copy the model again.")
    if path.suffix.lower() == ".safetensors":
        return _with_weights(path, _safetensors(path), trust, entry, files)
    audit = audit_file(path)
    holds = _holds(path, audit)
    if holds in ("program", "script"):
        if audit.names and not trust:
            raise refusal(path, audit)
        opened = _program(path) if holds == "program" else _script(path)
        return opened._replace(executes=bool(audit.names))
    if audit.kind not in ("torch", "pickle"):
        raise ArtifactUnreadable(f"{path.name} holds {audit.kind}, and no model of PyTorch.")
    return _with_weights(path, _pickled(path), trust, entry, files)


def _holds(path: Path, audit: Audit) -> str:
    if audit.kind != "torch":
        return ""
    with zipfile.ZipFile(path) as archive:
        found = torch_files.look(path.name, archive)
    return found.holds if found else ""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What PyTorch says to developers about its own future is no concern of whoever serves a model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _readable(path: Path, what: str) -> Iterator[None]:
    """Whatever PyTorch raises on a damaged file, in one sentence."""
    try:
        with quiet():
            yield
    except ServableError:
        raise
    except Exception as foreign:  # Whatever the library raises becomes one sentence.
        text = (str(foreign).strip().splitlines() or [""])[0][:160].rstrip(".")
        raise ArtifactUnreadable(
            f"{path.name} cannot be loaded as {what} by PyTorch {torch.__version__} "
            f"({type(foreign).__name__}: {text}); save it again with this version."
        ) from foreign


def _refused_pickle(path: Path, names: tuple[str, ...]) -> ArtifactUntrusted:
    told = ", ".join(beyond_weights(names))[:300] or "code"
    return ArtifactUntrusted(
        f"{path.name} was not opened, because it is a pickle that would run {told}, and pickles of "
        "PyTorch are opened with weights_only alone, --trust or not; save it with torch.export.save, or save "
        "its state_dict() and name the class with --entry.",
        names,
    )


# ---------------------------------------------------------------------- programs and scripts


def _program(path: Path) -> Opened:
    with _readable(path, "an exported program"):
        program = torch.export.load(str(path))
        # Guards of an exported program are texts of Python, which are executed; its own checks are enough.
        module = program.module(check_guards=False)
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    user = [name for name in program.graph_signature.user_inputs if isinstance(name, str)]
    given, spec = torch.utils._pytree.tree_flatten(program.example_inputs or ((), {}))
    keywords = list(program.example_inputs[1]) if program.example_inputs else []
    if spec.num_leaves and (len(given) != len(user) or not _is_flat(program.example_inputs)):
        raise ArtifactUnsupported(
            f"{path.name} takes lists, dicts or constants; export it with plain tensors as arguments."
        )
    arguments = tuple(
        _argument(path, name, values.get(name), given[place] if place < len(given) else None)
        for place, name in enumerate(user)
    )
    run = module if not keywords else _by_name(module, len(user) - len(keywords), keywords)
    return Opened(run, "program", arguments, _dict_keys(program.call_spec.out_spec), path)


def _is_flat(example: Any) -> bool:
    args, kwargs = example
    return all(isinstance(each, torch.Tensor) for each in (*args, *kwargs.values()))


class _ByName(nn.Module):  # type: ignore[misc]  # PyTorch is not there when types are checked
    """A module whose last arguments are keywords, taken in order."""

    def __init__(self, module: nn.Module, plain: int, keywords: list[str]) -> None:
        super().__init__()
        self.module, self.plain, self.keywords = module, plain, keywords

    def forward(self, *tensors: torch.Tensor) -> Any:
        return self.module(
            *tensors[: self.plain], **dict(zip(self.keywords, tensors[self.plain :], strict=True))
        )


def _by_name(module: nn.Module, plain: int, keywords: list[str]) -> nn.Module:
    return _ByName(module, plain, keywords)


def _argument(path: Path, name: str, value: Any, example: Any) -> Argument:
    if not isinstance(value, torch.Tensor):
        raise ArtifactUnsupported(f"{path.name} takes {name!r}, which is no tensor; export it with tensors.")
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    held = example if isinstance(example, torch.Tensor) else None
    return Argument(name, dtype_name(value.dtype), shape, held)


def _dict_keys(spec: Any) -> tuple[str, ...]:
    """The keys of an output that is one flat dict."""
    if getattr(spec, "type", None) is dict and spec.num_leaves == len(spec.context):
        return tuple(str(key) for key in spec.context)
    return ()


def _script(path: Path) -> Opened:
    with _readable(path, "TorchScript"):
        module = torch.jit.load(str(path), map_location="cpu").eval()
        schema = module.forward.schema
    others = [each for each in schema.arguments[1:] if str(each.type) != "Tensor"]
    needed = [each.name for each in others if not each.has_default_value()]
    if needed:
        raise ArtifactUnsupported(
            f"{path.name} takes {needed[0]!r}, which is no tensor; wrap it in a module that takes tensors."
        )
    names = tuple(each.name for each in schema.arguments[1:] if str(each.type) == "Tensor")
    return Opened(module, "script", tuple(Argument(name) for name in names), (), path)


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype under numpy's name; ``bfloat16``, which numpy lacks, stays as it is."""
    return str(dtype).removeprefix("torch.")


# ---------------------------------------------------------------------- weights


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError as missing:
        raise DependencyMissing(
            "A .safetensors needs safetensors, which is not installed; run: pip install 'servable[torch]'"
        ) from missing
    with _readable(path, "safetensors"):
        tensors: dict[str, torch.Tensor] = load_file(path)
        return tensors


def check_weights(path: Path) -> tuple[str, ...]:
    """Whether a pickle names nothing but tensors and plain data; what it names.

    Twice something got by ``weights_only``; what names nothing else has nothing to get by with.

    Raises:
        ArtifactUntrusted: it names more.
        ArtifactUnreadable: it is damaged, or no pickle.
    """
    audit = audit_file(path)
    if beyond_weights(audit.names) or not audit.complete:
        raise _refused_pickle(path, audit.names)
    return audit.names


def _pickled(path: Path) -> dict[str, torch.Tensor]:
    names = check_weights(path)
    try:
        with quiet():
            held = torch.load(str(path), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as refused:
        if "Weights only load failed" in str(refused) and names:
            raise _refused_pickle(path, names) from refused
        raise ArtifactUnreadable(f"{path.name} is truncated or damaged; copy or save it again.") from refused
    except Exception as foreign:  # Whatever the library raises becomes one sentence.
        raise ArtifactUnreadable(
            f"{path.name} is truncated, damaged or no file of PyTorch; copy or save it again."
        ) from foreign
    # Checkpoints of training loops keep the weights under such a key, beside the optimiser's.
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(held, dict) and isinstance(held.get(key), dict):
            held = held[key]
    if not isinstance(held, dict) or not all(isinstance(each, torch.Tensor) for each in held.values()):
        raise ArtifactUnsupported(f"{path.name} holds no weights by name; save model.state_dict() instead.")
    return {str(name): tensor for name, tensor in held.items()}


def _with_weights(
    path: Path, weights: dict[str, torch.Tensor], trust: bool, entry: str, files: tuple[Path, ...]
) -> Opened:
    if not entry:
        raise ArtifactUnsupported(
            f"{path.name} holds {len(weights)} tensors and no model; name the class that they belong to, "
            "with --entry net.py:Net, or save the whole model with torch.export.save."
        )
    if not trust:
        raise ArtifactUntrusted(
            f"{path.name} was not opened, because its class would have to be executed from {entry}; "
            "if you know what is in there, add --trust, else ask for a model saved with torch.export.save.",
            (entry,),
        )
    module = _made(entry)
    try:
        module.load_state_dict(weights, strict=True)
    except (RuntimeError, KeyError) as foreign:
        told = " ".join(str(foreign).split())[:300]
        raise SettingInvalid(f"The weights of {path.name} do not fit {entry}: {told}.") from foreign
    module.eval()
    arguments = tuple(Argument(name) for name in _parameters(module))
    return Opened(module, "weights", arguments, (), path, entry, files, True)


def _made(entry: str) -> nn.Module:
    """The module that a class or function makes; executes its file.

    Raises:
        SettingInvalid: there is no such thing, or it makes no module.
        FileMissing: no such file.
    """
    place, colon, name = entry.rpartition(":")
    if not colon or not name.isidentifier():
        raise SettingInvalid(
            f"The entry {entry!r} names no class; write it as net.py:Net or package.net:Net."
        )
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        made = getattr(module, name)()
    except ServableError:
        raise
    except ModuleNotFoundError as missing:
        raise DependencyMissing(
            f"{entry} needs the module {missing.name}, which is not installed; install what provides it, or "
            "name its file under files in a description."
        ) from missing
    except Exception as foreign:  # Whatever the library raises becomes one sentence.
        told = (str(foreign).strip().splitlines() or [""])[0][:200].rstrip(".")
        raise SettingInvalid(
            f"{entry} made no model ({type(foreign).__name__}: {told}); it is called without arguments."
        ) from foreign
    if not isinstance(made, nn.Module):
        raise SettingInvalid(f"{entry} made a {type(made).__name__}, which is no torch.nn.Module.")
    return made


def _from_file(path: Path) -> Any:
    if not path.is_file():
        raise FileMissing(f"There is no file {path}, which the entry names.")
    # Under a name of its own, so that two models with a net.py each do not meet.
    name = f"servable_entry_{path.stem}_{abs(hash(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FileMissing(f"{path} is no file of Python.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # Whatever lies beside it can be imported; it came into the package together with it.
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def _parameters(module: nn.Module) -> tuple[str, ...]:
    """The arguments of ``forward`` that must be given."""
    taken = inspect.signature(module.forward).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(
        each.name for each in taken if each.kind in kinds and each.default is inspect.Parameter.empty
    )
