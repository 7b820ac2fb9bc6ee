"""The Adapter seam: what Servable needs to know about a framework, and nothing else.

An adapter turns a file into a trained model, derives a signature from it, writes it into a package,
and makes a ``Predictor`` out of what a package holds. Adapters are found by name in ``lookup`` and
import their framework only inside their own module. ``servable.testing.check_adapter`` is the
conformance suite.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from numpy.typing import NDArray

from servable.artifact.manifest import Variant
from servable.artifact.signature import Field, Signature, Task
from servable.tensors import Arrays

#: Option of a trained variant whose loading executes code; the manifest must then say ``trusted``.
EXECUTES = "executes"
#: Option that says on what a variant should run, ``auto cpu cuda cuda:1``; set when a package is loaded, from
#: the deployment's policy, and never kept in a package. A predictor may say in ``device`` where it runs, and
#: in ``device_note``, one sentence without a full stop, why it is not where it should.
DEVICE = "device"
#: What the scores of a classifier are; empty where nobody said.
Scores = Literal["", "logits", "probabilities"]
#: Option of a variant whose predictor is a ``StreamingPredictor``; a server offers its answers in pieces.
STREAMS = "streams"
#: Option of a variant whose author says that it needs connections to others; its process may have them then,
#: unless its deployment says that it may not.
NETWORK = "network"
#: Likewise of one that starts programs or processes.
PROGRAMS = "programs"
#: Option of a variant that was made from another one: its name. That one runs in its place where the library
#: that this one needs is not installed.
MADE_FROM = "made_from"
#: Option of a variant in which the rows of one run influence each other, so that callers never share a run. A
#: server tries that out as well, but not every example shows it.
MIXES = "mixes"


class Predictor(Protocol):
    """A loaded variant: packed arrays in, packed arrays out.

    Not safe for concurrent calls unless ``concurrent`` is true; the executor sees to that.
    """

    #: Whether several threads may call ``predict`` at once.
    concurrent: bool

    def predict(self, arrays: Arrays) -> dict[str, Any]:
        """Answer all rows.

        Args:
            arrays: as in ``tensors.Request``; may be read-only and is never changed.

        Returns:
            ``prediction`` and, where the signature says so, ``probabilities``; see ``tensors``.

        Raises:
            ModelFailed: the model raised; the message does not repeat the rows.
        """
        ...

    def close(self) -> None:
        """Give back memory and handles. Calling ``predict`` afterwards is a fault of the caller."""
        ...


@runtime_checkable
class StreamingPredictor(Predictor, Protocol):
    """A predictor that can also answer one row in pieces. Its variant has the option ``STREAMS``."""

    def stream(self, arrays: Arrays) -> Iterator[dict[str, Any]]:
        """Answer one row piece by piece.

        Pieces are asked for one at a time, each perhaps from another thread, never two at once, and calls
        of ``predict`` and steps of other streams may come between two of them. An iterator with a method
        ``close`` (a generator) is closed when nobody wants more, also in the middle; there it lets go of
        what it holds. Beginning is quick: the work is in the steps.

        Args:
            arrays: one row, as in ``predict``; stay unchanged until the iterator is closed.

        Returns:
            Pieces, each with the names of the signature's outputs (as ``predict`` gives them) and one row:
            for texts the next part of the text, for anything else the next value.

        Raises:
            ModelFailed: the model raised, now or in a step.
        """
        ...


class Trained(NamedTuple):
    """A model that an adapter loaded from a file or that training produced.

    Attributes:
        model: the framework's own object.
        signature: what it takes and gives.
        options: what the adapter must know to run it again from the package (kept in ``Variant.options``).
        libraries: versions of the libraries that matter for loading it again.
    """

    model: Any
    signature: Signature
    options: Mapping[str, Any]
    libraries: Mapping[str, str]


class Hints(NamedTuple):
    """What the person who hands in a model knows and its file does not say; everything may be left out.

    Attributes:
        task: what the model does.
        inputs: what it takes, in order or by name; a field may leave out what the model itself says: its name
            and dtype are empty then, and its shape.
        labels: a classifier's classes, in the order of its scores; numbers from 0 where a network has none.
        entry: the class or function that belongs to the file, as ``file.py:Name`` or ``package.module:Name``.
        files: files and folders that the model needs beside it.
        scores: what a classifier gives for each label: ``logits`` become probabilities by the softmax
            function (one logit for two labels by the logistic one), ``probabilities`` are shown as they are;
            when it is empty the model's own last step decides, see ``scoring``.
    """

    task: Task | None = None
    inputs: tuple[Field, ...] = ()
    labels: tuple[str | bool | int | float, ...] = ()
    entry: str = ""
    files: tuple[Path, ...] = ()
    scores: Scores = ""


NO_HINTS = Hints()


class Inside(NamedTuple):
    """What a folder of one framework holds for the adapter of another.

    Attributes:
        framework: of the other.
        path: of its file or folder.
        sample: for its ``read``.
        hints: for its ``read``.
    """

    framework: str
    path: Path
    sample: Any | None
    hints: Hints


@runtime_checkable
class Container(Protocol):
    """What an adapter can do besides whose folders may hold models of other frameworks."""

    def inside(self, path: Path, *, sample: Any | None, hints: Hints) -> Inside | None:
        """What another adapter should read in this one's place; None when it reads the folder itself."""
        ...


@runtime_checkable
class Learner(Protocol):
    """What an adapter can do besides whose models may learn on from where they are."""

    def with_labels(self, trained: Trained, labels: Sequence[Any]) -> Trained:
        """The model, ready to learn labels that it may never have seen.

        Args:
            trained: is not changed.
            labels: each once, of the target's type; those that it knows are among them.

        Returns:
            The model with a signature that has the new labels behind the old ones; as it was where nothing
            is new, or where it cannot learn new ones.
        """
        ...

    def learn_on(self, trained: Trained, arrays: Arrays, truth: NDArray[Any]) -> Trained:
        """A model after it learned from further rows, in their order.

        Args:
            trained: is not changed.
            arrays: the rows, packed as the signature says; the newest is the last.
            truth: their right answers ``[rows]``: int64 places among the classes, or float64 values.

        Raises:
            SettingInvalid: the model cannot learn on.
            DataError: it cannot learn from one of these rows.
        """
        ...


class Adapter(Protocol):
    """One framework. Adapters hold no state and are safe to share."""

    #: The framework's name in manifests, for instance ``sklearn``.
    name: str
    #: File endings that it takes in, with the dot; empty for one that takes folders only.
    suffixes: tuple[str, ...]

    def read(self, path: Path, *, sample: Any | None, trust: bool, hints: Hints = NO_HINTS) -> Trained:
        """Take in a model trained elsewhere.

        Args:
            path: an existing file, or a folder that ``lookup`` found to be this framework's.
            sample: a ``pandas.DataFrame`` of example rows that the model accepts, or None; it gives
                names, kinds, categories, ranges and an example row that the file itself may lack.
            trust: whether the caller allows code in the file to run.
            hints: what the caller knows about the model.

        Raises:
            ArtifactUnreadable: empty, truncated, or not this framework's.
            ArtifactUntrusted: loading it would execute code and ``trust`` is false; nothing was executed.
            SettingInvalid: a hint contradicts the model, or one is needed; the sentence says which.
            DependencyMissing: a library that the model needs is not installed.
        """
        ...

    def write(self, trained: Trained, folder: Path) -> Variant:
        """Write the trained form into a package folder and say how to load it again (name ``trained``)."""
        ...

    def restore(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Trained:
        """The trained form of a package as it was when ``write`` wrote it; needs no hints and no sample.

        Args:
            folder: the package, whose digests were verified.
            variant: the one that ``write`` returned.
            signature: the package's; becomes that of the result.
            trust: as in ``load``.

        Raises:
            ArtifactUntrusted: it would execute code and ``trust`` is false.
            ArtifactUnreadable: damaged.
            DependencyMissing: a library that the model needs is not installed.
        """
        ...

    def load(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Predictor:
        """Make a variant of a package ready to answer.

        Args:
            folder: the package, whose digests were verified.
            variant: one whose ``format`` is this adapter's name.
            signature: the package's.
            trust: the manifest's ``trusted``; a form that executes code is refused without it.
        """
        ...

    def wrap(self, trained: Trained) -> Predictor:
        """A Predictor over a model in memory, the same that ``load`` would give after ``write``."""
        ...
