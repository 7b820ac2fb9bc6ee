"""The Adapter seam: a fake framework, and the check for all adapters."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from servable.artifact.manifest import TRAINED, Variant
from servable.artifact.signature import Signature
from servable.errors import ArtifactUnreadable, ArtifactUntrusted
from servable.frameworks.base import NO_HINTS, Adapter, Hints, Predictor, Trained
from servable.tensors import PREDICTION, PROBABILITIES, Arrays, row_count
from servable.testing.expect import expect, expect_error
from servable.testing.predictors import FakePredictor, fake_signature

_MAGIC = "sum of columns "


class FakeAdapter:
    """Reads ``.fake`` files that say ``sum of columns N``; the model is FakePredictor."""

    name = "fake"
    suffixes = (".fake",)

    def read(self, path: Path, *, sample: Any | None, trust: bool, hints: Hints = NO_HINTS) -> Trained:
        """Take in a ``.fake`` file.

        Raises:
            ArtifactUnreadable: it says something else.
        """
        text = path.read_text(encoding="utf-8", errors="replace")
        if not text.startswith(_MAGIC) or not text.endswith(".") or not text[len(_MAGIC) : -1].isdigit():
            raise ArtifactUnreadable(f"{path.name} is no fake model.")
        columns = int(text[len(_MAGIC) : -1])
        return Trained(columns, fake_signature(columns), {"columns": columns}, {})

    def write(self, trained: Trained, folder: Path) -> Variant:
        """Write ``model.fake``."""
        write_fake_model(folder / "model.fake", int(trained.model))
        return Variant(name=TRAINED, format=self.name, path="model.fake", options=dict(trained.options))

    def restore(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Trained:
        """Read it back."""
        return self.read(folder / variant.path, sample=None, trust=trust)._replace(signature=signature)

    def load(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Predictor:
        """Read it back and wrap it."""
        return self.wrap(self.restore(folder, variant, signature, trust=trust))

    def wrap(self, trained: Trained) -> Predictor:
        """The same, from memory."""
        return FakePredictor()


def write_fake_model(path: Path, columns: int) -> None:
    """Write a file that FakeAdapter reads."""
    path.write_text(f"{_MAGIC}{columns}.", encoding="utf-8")


class Specimen(NamedTuple):
    """A model file or folder to check an adapter with.

    Attributes:
        path: the file or folder.
        rows: packed rows that the model accepts, at least 2.
        sample: handed to ``read``.
        executes: whether loading the file runs code, so that it is refused without trust.
        hints: handed to ``read``.
        breakable: in a folder, the file whose damage must be found out.
    """

    path: Path
    rows: Arrays
    sample: Any | None = None
    executes: bool = False
    hints: Hints = NO_HINTS
    breakable: str = ""


def check_adapter(adapter: Adapter, specimen: Specimen, folder: Path) -> None:
    """Try what the Adapter seam promises: reading, writing, loading and wrapping give the same answers.

    Args:
        adapter: to be tried.
        specimen: a model file that it reads.
        folder: an empty folder to work in.

    Raises:
        AssertionError: a promise is broken.
    """
    if specimen.path.is_file():
        expect(specimen.path.suffix in adapter.suffixes, "the adapter names the endings that it reads")
    if specimen.executes:
        with expect_error(ArtifactUntrusted, "a file that executes code is refused without trust"):
            adapter.read(specimen.path, sample=specimen.sample, trust=False, hints=specimen.hints)
    _check_damaged(adapter, specimen, folder)
    trained = adapter.read(
        specimen.path, sample=specimen.sample, trust=specimen.executes, hints=specimen.hints
    )
    _check_kept(adapter, trained, specimen.rows, folder, trust=specimen.executes)


def check_form(
    adapter: Adapter, variant: Variant, package: Path, signature: Signature, rows: Arrays, folder: Path
) -> None:
    """Try what the Adapter seam promises of a form that optimisation made, where the adapter reads no files.

    Args:
        adapter: to be tried.
        variant: the form.
        package: in which its files lie, which are only read.
        signature: the package's.
        rows: packed rows that the model accepts, at least 2.
        folder: an empty folder to work in.

    Raises:
        AssertionError: a promise is broken.
    """
    expect(variant.format == adapter.name, "the form is one of this adapter's")
    place = package / variant.path
    names = sorted(path.name for path in place.iterdir()) if place.is_dir() else [""]
    for name in names:
        for damage, damaged in _damages((place / name).read_bytes()).items():
            broken = folder / f"{damage}-{name}"
            (broken / variant.path).parent.mkdir(parents=True)
            if place.is_dir():
                shutil.copytree(place, broken / variant.path)
            (broken / variant.path / name).write_bytes(damaged)
            with expect_error(ArtifactUnreadable, f"a form whose file is {damage} is refused as unreadable"):
                adapter.load(broken, variant, signature, trust=False)
    trained = adapter.restore(package, variant, signature, trust=False)
    _check_kept(adapter, trained, rows, folder, trust=False)


def _check_kept(adapter: Adapter, trained: Trained, rows: Arrays, folder: Path, *, trust: bool) -> None:
    """Writing, loading, restoring and wrapping give the same answers."""
    package = folder / "package"
    package.mkdir()
    variant = adapter.write(trained, package)
    expect(
        (variant.name, variant.format) == (TRAINED, adapter.name), "write names the variant and its format"
    )
    expect((package / variant.path).exists(), "write leaves what it names in the folder")
    restored = adapter.restore(package, variant, trained.signature, trust=trust)
    expect(restored.signature == trained.signature, "a restored model keeps its signature")
    again = adapter.wrap(restored)
    loaded = adapter.load(package, variant, trained.signature, trust=trust)
    wrapped = adapter.wrap(trained)
    shutil.rmtree(package)
    _check_same(wrapped, loaded, rows, trained.signature)
    _check_same(wrapped, again, rows, trained.signature)
    for predictor in (loaded, wrapped, again):
        predictor.close()


def _check_damaged(adapter: Adapter, specimen: Specimen, folder: Path) -> None:
    """Empty, truncated and garbage files of the right name."""
    content = (specimen.path / specimen.breakable).read_bytes()
    for form, damaged in _damages(content).items():
        path = folder / f"{form}{specimen.path.suffix}"
        if specimen.path.is_dir():
            shutil.copytree(specimen.path, path)
        (path / specimen.breakable).write_bytes(damaged)
        with expect_error(ArtifactUnreadable, f"a file that is {form} is refused as unreadable"):
            adapter.read(path, sample=specimen.sample, trust=True, hints=specimen.hints)


def _damages(content: bytes) -> dict[str, bytes]:
    """A file's content, damaged in several ways."""
    return {"empty": b"", "truncated": content[: len(content) // 2], "garbage": b"\x00garbage" * 32}


def _check_same(one: Predictor, other: Predictor, rows: Arrays, signature: Signature) -> None:
    """Two predictors of one model answer alike, in the right form, and leave the rows as they were."""
    before = {name: array.copy() for name, array in rows.items()}
    for array in rows.values():
        array.flags.writeable = False
    first, second = one.predict(rows), other.predict(rows)
    same = all(np.array_equal(first[name], second[name]) for name in first)
    expect(set(first) == set(second) and same, "wrap and load after write answer alike")
    unchanged = all(_same_values(array, before[name]) for name, array in rows.items())
    expect(unchanged, "predict does not change the rows")
    expect(
        (isinstance(first, Mapping) and PREDICTION in first) or signature.task == "transform", "it predicts"
    )
    count = row_count(rows)
    expect(all(len(array) == count for array in first.values()), "there is one answer for each row")
    if signature.task == "classification":
        index = np.asarray(first[PREDICTION])
        in_range = index.dtype == np.int64 and bool((index < len(signature.classes)).all())
        expect(in_range, "a classifier's prediction is an int64 index of its classes")
    if signature.probabilities:
        shape = np.asarray(first[PROBABILITIES]).shape
        expect(shape == (count, len(signature.classes)), "probabilities are [rows, classes]")


def _same_values(one: Any, other: Any) -> bool:
    """Whether two arrays hold the same, NaN being NaN."""
    if one.dtype.kind == "f":
        return bool(np.array_equal(one, other, equal_nan=True))
    return bool(np.array_equal(one, other))
