"""Files of River models: pickles, of which only River's own classes are opened without trust.

River keeps its models as pickles, and a pickle can name any function to be called. ``loads`` looks up nothing
but River's estimators with their parts and the containers of the standard library that they hold; a file that
names anything else is refused at that name, before it is looked up. The parts of River that read files, fetch
data or wrap other libraries are not among them.
"""

import inspect
import io
import pickle
from pathlib import Path
from typing import Any

from servable.artifact.audit import audit_file, refusal
from servable.errors import ArtifactUnreadable, DependencyMissing

#: Packages of River whose classes and functions compute, and do nothing else.
_COMPUTING = frozenset(
    {
        "_river_rust",
        "base",
        "compose",
        "drift",
        "dummy",
        "ensemble",
        "feature_extraction",
        "feature_selection",
        "forest",
        "linear_model",
        "metrics",
        "multiclass",
        "naive_bayes",
        "neighbors",
        "optim",
        "preprocessing",
        "proba",
        "rules",
        "stats",
        "tree",
        "utils",
    }
)
#: What they hold besides.
_CONTAINERS = frozenset(
    {
        "builtins.bool",
        "builtins.bytearray",
        "builtins.complex",
        "builtins.dict",
        "builtins.float",
        "builtins.frozenset",
        "builtins.int",
        "builtins.list",
        "builtins.object",
        "builtins.set",
        "builtins.str",
        "builtins.tuple",
        "collections.Counter",
        "collections.OrderedDict",
        "collections.defaultdict",
        "collections.deque",
        "copy.deepcopy",
        "copyreg._reconstructor",
        "datetime.date",
        "datetime.datetime",
        "datetime.timedelta",
        "functools.partial",
        "numpy._core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
        "numpy._core.numeric._frombuffer",
        "numpy.dtype",
        "numpy.ndarray",
        "random.Random",
        "servable.frameworks.river_steps.Columns",
        "servable.frameworks.river_steps.DateParts",
        "servable.frameworks.river_steps.Filled",
        "statistics.NormalDist",
    }
)
_RIVER = "river."
#: The pickle format that models are kept in.
_PROTOCOL = 5


class _NotVouchedFor(Exception):
    """A file names something that is neither River's nor a container. Never leaves here."""


class _Opener(pickle.Unpickler):
    """An unpickler that looks up what belongs to River, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """What a name stands for.

        Raises:
            _NotVouchedFor: nobody here vouches for it.
        """
        full = f"{module}.{name}"
        if full == "builtins.getattr":
            # Pickles keep a method as its owner and its name.
            return _method
        if full in _CONTAINERS:
            return super().find_class(module, name)
        if not _computes(module):
            raise _NotVouchedFor(full)
        found = super().find_class(module, name)
        if not _vouched(found):
            raise _NotVouchedFor(full)
        return found


def _computes(module: str) -> bool:
    """Whether a module belongs to one of the packages that compute."""
    return module.startswith(_RIVER) and module.split(".")[1] in _COMPUTING


def _vouched(found: Any) -> bool:
    """Whether something is a class or function of these packages, and nothing that one of them imported."""
    kind = inspect.isclass(found) or inspect.isfunction(found) or inspect.isbuiltin(found)
    return kind and _computes(str(getattr(found, "__module__", "")))


def _method(owner: Any, name: str) -> Any:
    """A method of one of River's classes or objects.

    Raises:
        _NotVouchedFor: it is anything else.
    """
    kind = owner if inspect.isclass(owner) else type(owner)
    if not _computes(kind.__module__) or name.startswith("__"):
        raise _NotVouchedFor(f"builtins.getattr({kind.__module__}.{kind.__qualname__}, {name})")
    if not _vouched(getattr(kind, name, None)):
        raise _NotVouchedFor(f"{kind.__module__}.{kind.__qualname__}.{name}")
    return getattr(owner, name)


def dumps(model: Any) -> bytes:
    """A model as a pickle.

    Raises:
        ArtifactUnreadable: it holds something that cannot be kept, such as a function without a name.
    """
    try:
        return pickle.dumps(model, _PROTOCOL)
    except Exception as foreign:  # Whatever a part of the model raises becomes one sentence.
        raise ArtifactUnreadable(
            f"The River model cannot be kept, because a part of it cannot be pickled "
            f"({type(foreign).__name__}: {_first_line(foreign)}); name functions instead of using lambdas."
        ) from foreign


def vouched_for(data: bytes) -> bool:
    """Whether a pickle that was just made here holds nothing but what ``loads`` opens without trust."""
    try:
        _Opener(io.BytesIO(data)).load()
    except _NotVouchedFor:
        return False
    return True


def open_file(path: Path, *, trust: bool) -> Any:
    """The object in a file.

    Args:
        path: of the file.
        trust: whether code that the file names may run.

    Raises:
        ArtifactUntrusted: it names more than River and ``trust`` is false; nothing of it was executed.
        ArtifactUnreadable: empty, truncated or damaged.
        DependencyMissing: it names a module that is not installed.
    """
    audit = audit_file(path)
    if audit.kind != "pickle":
        raise ArtifactUnreadable(f"{path.name} holds {audit.kind}, not a pickled River model.")
    data = path.read_bytes()
    try:
        return _Opener(io.BytesIO(data)).load()
    except _NotVouchedFor as named:
        if not trust:
            strange = tuple(name for name in audit.names if not _own(name)) or (str(named),)
            raise refusal(path, audit._replace(names=strange)) from named
    except Exception as foreign:
        raise _unreadable(path, foreign) from foreign
    except BaseException as foreign:
        raise _panicked(path, foreign) from foreign
    return _trusted(path, data)


def _trusted(path: Path, data: bytes) -> Any:
    """The object in a file that may run code.

    Raises:
        DependencyMissing: it names a module that is not installed.
        ArtifactUnreadable: anything else that goes wrong.
    """
    try:
        return pickle.loads(data)  # noqa: S301 - a person allowed it
    except ModuleNotFoundError as missing:
        raise DependencyMissing(
            f"{path.name} needs the module {missing.name}, which is not installed; install what provides it."
        ) from missing
    except Exception as foreign:
        raise _unreadable(path, foreign) from foreign
    except BaseException as foreign:
        raise _panicked(path, foreign) from foreign


def _own(name: str) -> bool:
    """Whether a name of an audit, which may be that of a method, needs no trust."""
    return name in _CONTAINERS or name == "builtins.getattr" or _computes(name)


def _unreadable(path: Path, foreign: BaseException) -> ArtifactUnreadable:
    return ArtifactUnreadable(
        f"{path.name} cannot be loaded ({type(foreign).__name__}: {_first_line(foreign)}); "
        "save it again with the version of River installed here."
    )


def _panicked(path: Path, foreign: BaseException) -> BaseException:
    """What to raise for what is no ``Exception``: River's compiled part panics over damaged data."""
    if type(foreign).__name__ != "PanicException":
        return foreign
    return _unreadable(path, foreign)


def _first_line(foreign: BaseException) -> str:
    text = str(foreign).strip().splitlines()
    return text[0][:200] if text else "no reason given"
