"""The files of a model in plain Python: found without running anything, copied, and imported from the copy.

What belongs to a model file are the files that it names (``files = [...]``) and the modules beside it that it
imports, found in its syntax. The model always runs from a copy of exactly these, also while it is added, so
that what is forgotten is noticed then and not in production.
"""

import ast
import hashlib
import importlib.util
import itertools
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from servable.artifact.files import storage_errors
from servable.errors import (
    ArtifactUnreadable,
    DependencyMissing,
    FileMissing,
    InputError,
    ServableError,
    SettingInvalid,
)

_LARGEST = 4 * 1024 * 1024
_numbers = itertools.count(1)
#: How many model files are being imported just now.
_importing = 0


class Source(NamedTuple):
    """What belongs to a model.

    Attributes:
        file: the model's own.
        files: every file, its own among them, by where it lies in the copy, with forward slashes.
        names: modules that it imports, for people.
    """

    file: Path
    files: dict[str, Path]
    names: tuple[str, ...]


def split(path: str | Path) -> tuple[Path, str]:
    """``model.py:Sentiment`` as a path and a name; the name is empty when there is none."""
    text = str(path)
    head, colon, name = text.rpartition(":")
    if colon and head.endswith(".py") and name.isidentifier():
        return Path(head), name
    return Path(text), ""


def gather(file: Path, more: Sequence[Path] = ()) -> Source:
    """What belongs to a model file; nothing of it is run.

    Args:
        file: the model's.
        more: further files and folders, wherever they lie; they are copied beside it under their own names.

    Raises:
        ArtifactUnreadable: it is no Python.
        FileMissing: a file that it names is not there.
        SettingInvalid: it names files in a way that cannot be read, or outside of its folder.
    """
    files = {file.name: file}
    tree = _parsed(file)
    for name in _declared(tree, file):
        files.update(_within(file.parent, name, file.name))
    for path in more:
        files.update(_listed(path, path.name))
    names: set[str] = set()
    waiting = [tree]
    while waiting:
        for name in _imports(waiting.pop()):
            names.add(name)
            found = _beside(file.parent, name.partition(".")[0], files)
            files.update(found)
            waiting += [_parsed(path) for path in found.values() if path.suffix == ".py"]
    return Source(file, dict(sorted(files.items())), tuple(sorted(names)))


def digest(source: Source) -> str:
    """SHA-256 in hex of everything that belongs to a model."""
    whole = hashlib.sha256()
    for name, path in source.files.items():
        with path.open("rb") as stream:
            whole.update(f"{name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def copy(source: Source, folder: Path) -> None:
    """Copy everything into a folder, which is made.

    Raises:
        StorageFull: no space left.
    """
    with storage_errors("copying the model"):
        for name, path in source.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


@contextmanager
def imported(file: Path) -> Iterator[ModuleType]:
    """Run a model file as a module of its own; its folder comes first on the path within the block.

    Modules of that folder are forgotten afterwards, so that another model may have others of the same names.

    Raises:
        DependencyMissing: a module that it imports is not there.
        ArtifactUnreadable: it raised.
    """
    global _importing
    name = f"servable_model_{next(_numbers)}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ArtifactUnreadable(f"{file.name} cannot be imported; give a file that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(file.parent))
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    _importing += 1
    try:
        with told(f"{file.name} could not be imported", file):
            spec.loader.exec_module(module)
        yield module
    except BaseException:
        sys.modules.pop(name, None)
        raise
    finally:
        _importing -= 1
        sys.dont_write_bytecode = writes
        sys.path.remove(str(file.parent))
        # What is imported later, inside of functions, is found after everything else.
        sys.path.append(str(file.parent))
        for other, loaded in tuple(sys.modules.items()):
            origin = getattr(loaded, "__file__", None)
            if other != name and origin is not None and Path(origin).is_relative_to(file.parent):
                del sys.modules[other]


def refuse_while_importing() -> None:
    """For whatever a model file must not do while it is imported.

    Raises:
        InputError: a model file is being imported.
    """
    if _importing:
        raise InputError(
            "A model file adds or serves models while it is imported; put that below "
            'if __name__ == "__main__": so that it happens only when the file is run.'
        )


@contextmanager
def told(what: str, file: Path) -> Iterator[None]:
    """Turn what code of the author's raises while it is loaded into one of our errors.

    Raises:
        DependencyMissing: a module that it imports is not there.
        ArtifactUnreadable: anything else.
    """
    try:
        yield
    except ServableError:
        raise
    except ModuleNotFoundError as missing:
        raise DependencyMissing(
            f"{file.name} needs the module {missing.name}, which is not installed and does not lie beside it."
        ) from missing
    except FileNotFoundError as missing:
        raise FileMissing(
            f"{what}, because {missing.filename} is not there; name the files that it needs: files = [...]."
        ) from missing
    except (Exception, SystemExit) as foreign:
        place = _line_in(foreign, file)
        said = str(foreign).strip().splitlines()
        text = f": {said[0][:200]}" if said else ""
        raise ArtifactUnreadable(f"{what}: {type(foreign).__name__}{place}{text}.") from foreign


def _line_in(error: BaseException, file: Path) -> str:
    """Where in a file an error came up."""
    place, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            place = f" in line {trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _parsed(file: Path) -> ast.Module:
    if not file.is_file():
        raise FileMissing(f"There is no file {file}.")
    if file.stat().st_size > _LARGEST:
        raise ArtifactUnreadable(f"{file.name} is larger than 4 MiB, which no source file is.")
    try:
        return ast.parse(file.read_bytes(), filename=file.name)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        place = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise ArtifactUnreadable(f"{file.name} is no Python ({type(error).__name__}{place}).") from error


def _declared(tree: ast.Module, file: Path) -> list[str]:
    """The files that classes and marks on functions name."""
    values: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.Assign):
                    targets, value = item.targets, item.value
                elif isinstance(item, ast.AnnAssign) and item.value is not None:
                    targets, value = [item.target], item.value
                else:
                    continue
                if any(isinstance(target, ast.Name) and target.id == "files" for target in targets):
                    values.append(value)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call):
                    values += [each.value for each in mark.keywords if each.arg == "files"]
    names: list[str] = []
    for value in values:
        try:
            found = ast.literal_eval(value)
        except ValueError:
            found = None
        if not isinstance(found, list | tuple) or not all(isinstance(name, str) for name in found):
            raise SettingInvalid(
                f'{file.name}, line {value.lineno}: files must be a plain list, such as ["weights.npz"].'
            )
        names += found
    return names


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module


def _beside(folder: Path, name: str, known: dict[str, Path]) -> dict[str, Path]:
    """The files of a module that lies in a folder, but for those that are known."""
    single, package = folder / f"{name}.py", folder / name
    found: dict[str, Path] = {}
    if single.is_file():
        found = {single.name: single}
    elif (package / "__init__.py").is_file():
        found = _listed(package, name)
    return {place: path for place, path in found.items() if place not in known}


def _within(folder: Path, name: str, owner: str) -> dict[str, Path]:
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise SettingInvalid(f"{owner} names {name!r}; files must lie beside it or in a folder below.")
    if not path.exists():
        raise FileMissing(f"{owner} names {name!r} in files, and there is no {path}.")
    return _listed(path, Path(name).as_posix())


def _listed(path: Path, name: str) -> dict[str, Path]:
    if path.is_file():
        return {name: path}
    if not path.exists():
        raise FileMissing(f"There is no {path}.")
    return {
        f"{name}/{file.relative_to(path).as_posix()}": file
        for file in sorted(path.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }
