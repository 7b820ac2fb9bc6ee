"""The head of a package: what is in it, who made it, which variant serves.

A package is a folder::

    manifest.json     this record; names every other file with its size and SHA-256
    signature.json    what the model takes and gives
    model.skops | model.onnx | model.pkl ...   the model as trained
    variants/*.onnx   compiled forms that were proven equal
    evaluation.json   metrics on rows that training never saw (packages made by training)
    report.html       the same for people
    profile.json      reference profile of the training columns
    sample.npz        held-out rows in packed form, for proofs made later
    answers.npz       what the model answered to some of those rows, where answers are whole arrays
    truth.npz         the true answers to those rows, where they are known
    selfcheck.npz     the example row in packed form with the answers to it, which every load must give again
    recipe.json       what training was told, and which rows it had (packages made by training)

The format number is ``FORMAT``. Raise it when a reader of the present number would misread the new
form; a new optional field does not need it. To raise it: copy the reader of the old form to
``artifact/old/format_N.py`` with a golden package made by the old code under ``tests/artifact/golden``,
let it return today's records, and name it in ``package.READERS``. A package with a higher number than
ours is refused with ``ArtifactUnsupported``, never guessed at.
"""

from typing import Any

import msgspec

from servable.artifact.loss import Loss

#: The package format written by this code.
FORMAT = 1
MANIFEST_FILE = "manifest.json"
SIGNATURE_FILE = "signature.json"
EVALUATION_FILE = "evaluation.json"
REPORT_FILE = "report.html"
PROFILE_FILE = "profile.json"
SAMPLE_FILE = "sample.npz"
ANSWERS_FILE = "answers.npz"
TRUTH_FILE = "truth.npz"
SELF_CHECK_FILE = "selfcheck.npz"
RECIPE_FILE = "recipe.json"
#: The variant that runs the model as its framework left it.
TRAINED = "trained"
#: In ``Variant.unchecked``: asked twice when the package was made, it gave two answers.
WANDERS = "it answers equal rows differently from run to run"


class FileEntry(msgspec.Struct, frozen=True):
    """A file of the package: path relative to the package with forward slashes, bytes, SHA-256 in hex."""

    path: str
    size: int
    sha256: str


class Timing(msgspec.Struct, frozen=True):
    """Median seconds of one call of a variant with this many rows, measured on ``Proof.machine``."""

    rows: int
    seconds: float


class Proof(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outcome of comparing a variant with the trained model.

    Attributes:
        equal: whether it answers like the trained model; then it may serve.
        rows: how many rows were compared, held-out and made together.
        label_differences: rows whose label differs (classification and clustering).
        worst_difference: the largest difference of a probability or value, absolute or relative, the
            smaller of the two per cell.
        tolerance: what was allowed.
        reason: one sentence when not equal.
        loss: of a variant that answers differently on purpose: a metric decides whether it may serve.
    """

    equal: bool
    rows: int
    label_differences: int = 0
    worst_difference: float = 0.0
    tolerance: float = 1e-4
    reason: str = ""
    loss: Loss | None = None

    @property
    def serves(self) -> bool:
        """Whether the variant may serve."""
        return self.equal if self.loss is None else self.loss.passed


class Variant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One executable form of the version.

    Attributes:
        name: ``trained``, ``onnx-fp64``, ``onnx-fp32`` ...
        format: which adapter loads it: ``onnx``, ``sklearn``, ``lightgbm``.
        path: its file in the package.
        options: what the adapter needs to know besides the file (for instance how to feed the inputs).
        proof: comparison with the trained model; None for the trained form itself.
        timings: how long one call takes at several batch sizes.
        note: one line for people.
        unchecked: why its answer to the example is not compared when it is loaded, without a full stop; empty
            where it is, and in packages older than that comparison.
    """

    name: str
    format: str
    path: str
    options: dict[str, Any] = {}
    proof: Proof | None = None
    timings: tuple[Timing, ...] = ()
    note: str = ""
    unchecked: str = ""

    @property
    def wanders(self) -> bool:
        """Whether it is known to answer equal rows differently from run to run, as what draws lots does."""
        return self.unchecked == WANDERS


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A package's head.

    Attributes:
        format: see ``FORMAT``.
        model: the name under which it was made; the registry's name wins if it was renamed.
        created_at: ISO 8601, UTC.
        framework: who trained it: ``sklearn lightgbm onnx``.
        serving: name of the variant that serves.
        variants: every form that the package holds; ``trained`` is among them.
        files: every file except the manifest itself.
        libraries: versions of the libraries that the trained form was made with.
        recipe: how it was trained (estimator, parameters, seed, split); empty for models taken in.
        metrics: headline metrics of the evaluation, by name.
        source: where it came from: data file name, or model file name and its digest.
        trusted: whether a person allowed the trained form, which executes code when loaded, to be loaded.
        machine: processor and core count on which timings were measured.
        refused: forms that were tried and do not serve: refused by the proof, or impossible to make.
            No file of theirs is kept; ``note`` says why.
    """

    format: int = FORMAT
    model: str
    created_at: str
    framework: str
    serving: str = TRAINED
    variants: tuple[Variant, ...]
    files: tuple[FileEntry, ...] = ()
    libraries: dict[str, str] = {}
    recipe: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    source: dict[str, Any] = {}
    trusted: bool = False
    machine: str = ""
    refused: tuple[Variant, ...] = ()

    def variant(self, name: str) -> Variant:
        """The variant of this name.

        Raises:
            KeyError: the package has none.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise KeyError(name)

    @property
    def chosen(self) -> Variant:
        """The variant that serves."""
        return self.variant(self.serving)
