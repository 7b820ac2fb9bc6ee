"""Models in plain Python: a class or a function whose type hints are the signature.

``python_model`` is what their authors use, ``python_source`` finds and imports their files, ``python_types``
and ``python_hints`` read the types, ``python_calls`` calls them. A package keeps the files as they are, in
the folder ``python``. Loading executes them, so they need trust and run in a process of their own.
"""

import inspect
import platform
import sys
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from types import ModuleType
from typing import Any

import numpy as np

from servable.artifact.audit import NAMES_SHOWN, dangerous
from servable.artifact.manifest import TRAINED, Variant
from servable.artifact.signature import Signature
from servable.errors import ArtifactUnreadable, ArtifactUntrusted, DataError, InputError
from servable.frameworks import python_source as source
from servable.frameworks.base import EXECUTES, NETWORK, NO_HINTS, PROGRAMS, STREAMS, Hints, Predictor, Trained
from servable.frameworks.python_calls import Awaiter, PythonPredictor
from servable.frameworks.python_hints import Plan, plan_of, signature_of
from servable.frameworks.python_model import MARK, Model

_FOLDER = "python"
_ENTRY = "entry"
#: A function that is taken when a file holds no model that is marked as one.
_USUAL = "predict"


class PythonModel:
    """A model that was imported and loaded.

    Attributes:
        source: its files.
        name: of its class or function.
        function: what answers.
        plan: how it is called.
        awaiter: runs what is asynchronous.
        instance: the object, or the function itself.
        where: its file and name, for people.
    """

    def __init__(
        self, files: source.Source, name: str, instance: Any, function: Callable[..., Any], plan: Plan
    ) -> None:
        self.source = files
        self.name = name
        self.instance = instance
        self.function = function
        self.plan = plan
        self.awaiter = Awaiter()
        self.where = f"{files.file.name}:{name}"


class PythonAdapter:
    """Classes and functions in Python files."""

    name = "python"
    suffixes = (".py",)

    def read(self, path: Path, *, sample: Any | None, trust: bool, hints: Hints = NO_HINTS) -> Trained:
        """Take in a model from its file; see the seam. ``hints.entry`` names its class or function.

        Raises:
            ArtifactUnreadable: no Python, without a model, or it raised while it was loaded.
            ArtifactUntrusted: ``trust`` is false; nothing was executed.
            FileMissing: a file that it names is not there.
            SettingInvalid: its types do not say what it takes and gives; the sentence shows what to write.
            DependencyMissing: a module that it imports is not there.
        """
        files = source.gather(path, hints.files)
        if not trust:
            raise _untrusted(files)
        name = hints.entry.rpartition(":")[2]
        folder = Path(tempfile.mkdtemp(prefix="servable-model-"))
        try:
            source.copy(files, folder)
            return self._loaded(files, folder, name, hints, sample, owned=True)
        except BaseException:
            rmtree(folder, ignore_errors=True)
            raise

    def take(self, model: Any, *, sample: Any | None, hints: Hints = NO_HINTS) -> Trained:
        """Take in a class, an object of it, or a function that is in memory; its file is what is kept.

        Raises:
            InputError: it does not come from a file, or holds what its file does not make again.
            ServableError: as ``read``.
        """
        thing = model if inspect.isclass(model) or inspect.isfunction(model) else type(model)
        try:
            file = Path(inspect.getsourcefile(thing) or "")
        except TypeError:
            file = Path()
        if not file.is_file() or thing.__qualname__ != thing.__name__:
            raise InputError(
                f"{thing.__qualname__} does not stand at the top of a file; put it into one, "
                "such as model.py, and add that."
            )
        entry = hints._replace(entry=f"{file}:{thing.__name__}")
        trained = self.read(file, sample=sample, trust=True, hints=entry)
        lost = sorted(
            set(getattr(model, "__dict__", ())) - set(getattr(trained.model.instance, "__dict__", ()))
        )
        if thing is not model and lost:
            raise InputError(
                f"This {thing.__name__} holds {', '.join(lost[:5])}, which its class does not make when it "
                "is made anew; save it to a file, name that in files = [...], and read it in load()."
            )
        return trained

    def write(self, trained: Trained, folder: Path) -> Variant:
        """Copy the model's files; see the seam."""
        model: PythonModel = trained.model
        source.copy(model.source, folder / _FOLDER)
        note = f"{model.source.file.name}:{model.name}, {len(model.source.files)} files"
        return Variant(
            name=TRAINED, format=self.name, path=_FOLDER, options=dict(trained.options), note=note
        )  # fmt: skip

    def restore(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Trained:
        """The model of a package, imported and loaded; see the seam."""
        place, (file, _, name) = folder / variant.path, str(variant.options.get(_ENTRY, "")).partition(":")
        files = source.Source(place / file, _files_of(place), ())
        if not trust:
            raise _untrusted(files)
        if file not in files.files:
            raise ArtifactUnreadable(
                f"The package has no {file}, in which its model should be; add it again."
            )
        # Labels that were hints stand in the signature now.
        hints = Hints(labels=signature.classes)
        trained = self._loaded(files, place, name, hints, None)
        return trained._replace(signature=signature)

    def load(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Predictor:
        """A predictor over the model in a package; see the seam and ``restore``."""
        return self.wrap(self.restore(folder, variant, signature, trust=trust))

    def wrap(self, trained: Trained) -> Predictor:
        """A predictor over the model in memory."""
        model: PythonModel = trained.model
        return PythonPredictor(model, trained.signature)

    def _loaded(
        self,
        files: source.Source,
        folder: Path,
        name: str,
        hints: Hints,
        sample: Any | None,
        *,
        owned: bool = False,
    ) -> Trained:
        """Import, make and load what lies in a folder."""
        file = folder / files.file.name
        with source.imported(file) as module:
            thing = _found(module, name, files.file.name)
            where = f"{files.file.name}: {thing.__name__}"
            instance, function = _made(thing, folder, file)
            where = where if thing is function else f"{where}.predict"
            plan = plan_of(function, where, hints)
            signature = signature_of(plan, _example(thing, function, sample), hints)
            model = PythonModel(files, thing.__name__, instance, function, plan)
            if owned:
                weakref.finalize(model, _forget, folder)
            load = getattr(instance, "load", None) if thing is not function else None
            if load is not None:
                with source.told(f"{thing.__name__}.load could not be run", file):
                    model.awaiter.finished(load())
        options = {_ENTRY: f"{files.file.name}:{thing.__name__}", EXECUTES: True}
        if plan.pieces:
            options[STREAMS] = True
        options |= {option: True for option in (NETWORK, PROGRAMS) if _declares(thing, option)}
        return Trained(
            model, signature, options, {"python": platform.python_version(), "numpy": np.__version__}
        )


def _declares(thing: Any, need: str) -> bool:
    """Whether the author of a class or function says that it needs the network, or programs.

    Only by True itself: an attribute of that name may be something of the model's own.
    """
    return getattr(thing, MARK, {}).get(need) is True or getattr(thing, need, False) is True


def _forget(folder: Path) -> None:
    """The copy of a model that is gone."""
    if str(folder) in sys.path:
        sys.path.remove(str(folder))
    rmtree(folder, ignore_errors=True)


def _untrusted(files: source.Source) -> ArtifactUntrusted:
    ranked = sorted(files.names, key=lambda name: (not dangerous(f"{name}.any"), name))
    more = ", ..." if len(ranked) > NAMES_SHOWN else ""
    shown = f" and what it imports ({', '.join(ranked[:NAMES_SHOWN])}{more})" if ranked else ""
    return ArtifactUntrusted(
        f"{files.file.name} was not opened, because a model in Python runs the code in it{shown}; "
        "if you know who wrote it, add --trust.",
        files.names,
    )


def _files_of(folder: Path) -> dict[str, Path]:
    return {
        file.relative_to(folder).as_posix(): file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }


def _found(module: ModuleType, name: str, file: str) -> Any:
    """The class or function of a model in its module."""
    own = {
        key: value
        for key, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__
        and (inspect.isclass(value) or inspect.isfunction(value))
    }
    if name:
        if name not in own:
            raise ArtifactUnreadable(f"{file} has no class or function {name}; it has {_said(own)}.")
        return own[name]
    marked = {
        key: value
        for key, value in own.items()
        if (inspect.isclass(value) and issubclass(value, Model)) or hasattr(value, MARK)
    }
    if len(marked) > 1:
        raise ArtifactUnreadable(f"{file} holds several models; name one: {file}:{sorted(marked)[0]}.")
    if marked:
        return next(iter(marked.values()))
    if _USUAL in own:
        return own[_USUAL]
    raise ArtifactUnreadable(
        f"{file} holds no class that derives from servable.Model and no function {_USUAL}; "
        f"name what you mean: {file}:NAME."
    )


def _said(names: dict[str, Any]) -> str:
    return ", ".join(sorted(names)[:10]) or "none"


def _made(thing: Any, folder: Path, file: Path) -> tuple[Any, Callable[..., Any]]:
    """The object and what is called."""
    if not inspect.isclass(thing):
        return thing, thing
    with source.told(f"{thing.__name__}() could not be made", file):
        instance = thing()
        if isinstance(instance, Model):
            instance.folder = folder
    function = getattr(instance, "predict", None)
    if not callable(function):
        raise ArtifactUnreadable(
            f"{file.name}: {thing.__name__} has no predict; write for instance "
            "def predict(self, text: list[str]) -> list[float]."
        )
    return instance, function


def _example(thing: Any, function: Callable[..., Any], sample: Any | None) -> dict[str, Any]:
    """One row that the model accepts, as far as somebody said one."""
    marks = getattr(thing, MARK, {})
    example = getattr(thing, "example", None) if inspect.isclass(thing) else marks.get("example")
    if sample is not None:
        if not len(sample):
            raise DataError("The sample holds no rows.")
        row = sample.iloc[0].to_dict()
        return {str(key): _json(value) for key, value in row.items()}
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if isinstance(parameter.default, str | int | float)
    }
    return {**defaults, **(example or {})}


def _json(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


ADAPTER = PythonAdapter()
