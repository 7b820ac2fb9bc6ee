"""ONNX models through onnxruntime: what compiled variants and models taken in as ``.onnx`` run on.

Imports onnxruntime and numpy only, so that a server of compiled models needs no training library. The
options of a variant are those of ``graph_predictor``; beside them ``onnx_session`` keeps what is best on
which kind of machine.
"""

import contextlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from servable.artifact.files import storage_errors
from servable.artifact.manifest import TRAINED, Variant
from servable.artifact.onnx_files import outside_files
from servable.artifact.signature import Signature
from servable.errors import ArtifactUnreadable, ArtifactUnsupported, converted
from servable.frameworks import onnx_hinted, onnx_signature
from servable.frameworks.base import NO_HINTS, Hints, Predictor, Trained
from servable.frameworks.devices import PROCESSOR, Placed, gpu_number, settle, wanted
from servable.frameworks.graph_predictor import GraphPredictor, Run, asked_with_texts
from servable.frameworks.onnx_session import (
    CPU,
    CUDA,
    DEFAULT,
    SessionChoice,
    session_options,
    stored_choice,
)

#: onnxruntime raises classes of its own without a common base, besides Python's.
_FAILURES: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    *(
        entry
        for entry in vars(ort_state).values()
        if isinstance(entry, type) and issubclass(entry, Exception)
    ),
)


def open_session(path: Path, options: Mapping[str, Any] | None = None) -> ort.InferenceSession:
    """A session with the options that were found best on this kind of machine, else with the defaults.

    The defaults suit short single-threaded runs; concurrency comes from the callers.

    Args:
        path: the file.
        options: ``Variant.options``; findings in it that cannot be used are passed over.

    Raises:
        ArtifactUnreadable: empty, truncated, no ONNX model, or a tensor file that is not beside it.
        ArtifactUnsupported: a valid model with operators that this onnxruntime does not have.
    """
    with converted({OSError: ArtifactUnreadable}, f"{path.name} cannot be read: {{}}."):
        if path.stat().st_size == 0:
            raise ArtifactUnreadable(f"{path.name} is empty (0 bytes); export or copy the model again.")
    outside_files(path)
    choice = stored_choice(options or {}) or DEFAULT
    wish = wanted(options or {})
    gpu = gpu_number(wish)
    if wish == PROCESSOR:
        choice = msgspec.structs.replace(choice, provider=CPU)
    elif gpu is not None and CUDA in ort.get_available_providers():
        with contextlib.suppress(*_FAILURES):
            return _session(path, msgspec.structs.replace(choice, provider=CUDA), gpu)
    if choice != DEFAULT:
        with contextlib.suppress(*_FAILURES):
            # Whatever is wrong with the finding, or with the file: the defaults say it below.
            return _session(path, choice)
    try:
        return _session(path, DEFAULT)
    except ort_state.NotImplemented as foreign:
        raise ArtifactUnsupported(
            f"{path.name} uses an operator that onnxruntime {ort.__version__} does not have; "
            "export it with a lower opset."
        ) from foreign
    except _FAILURES as foreign:
        reason = (str(foreign).rpartition("failed:")[2].strip().splitlines() or [""])[0].rstrip(".")[:160]
        raise ArtifactUnreadable(
            f"{path.name} is no ONNX model that onnxruntime {ort.__version__} can load"
            f"{f' ({reason})' if reason else ''}; it may be damaged or truncated, or use types that its "
            "operators do not take; export or copy it again."
        ) from foreign


def predictor_with(path: Path, options: Mapping[str, Any], choice: SessionChoice) -> Predictor | None:
    """A predictor with exactly these session options; None when they cannot be had for this file."""
    try:
        session = _session(path, choice)
    except _FAILURES:
        return None
    # onnxruntime falls back to the processor without a word when a provider cannot be used.
    return _predictor(path, session, options) if session.get_providers()[0] == choice.provider else None


def _predictor(path: Path, session: ort.InferenceSession, options: Mapping[str, Any]) -> Predictor:
    """A predictor over a session; one that cuts texts into tokens first where the options say so."""
    return asked_with_texts(OnnxPredictor(session, options), path.parent, options)


def _session(path: Path, choice: SessionChoice, gpu: int = 0) -> ort.InferenceSession:
    providers: list[Any] = [CPU]
    if choice.provider != CPU:
        providers = [(CUDA, {"device_id": gpu}) if choice.provider == CUDA else choice.provider, CPU]
    return ort.InferenceSession(str(path), session_options(choice), providers=providers)


class OnnxPredictor(GraphPredictor):
    """A session with its feeds worked out beforehand. Safe for concurrent calls."""

    def __init__(self, session: ort.InferenceSession, options: Mapping[str, Any]) -> None:
        super().__init__(_run(session), options, _device(session, wanted(options)), _FAILURES)


def _run(session: ort.InferenceSession) -> Run:
    """What computes a session's outputs, at the least cost a call. Called by several threads at once.

    A small model computes in less time than a call costs. Two parts of that are saved, together a third of a
    call of 13 us: options made anew for every call (a run only reads them, so that all calls share one
    object), and, on the processor, the wrapper in Python, which looks for inputs that are missing (so does
    the run itself) and turns to another provider when one breaks (there is no other).
    """
    inner = getattr(session, "_sess", session) if session.get_providers() == [CPU] else session
    call: Callable[..., Any] = inner.run
    shared = ort.RunOptions()

    def run(names: list[str], feed: dict[str, Any]) -> Any:
        return call(names, feed, shared)

    return run


def _device(session: ort.InferenceSession, wish: str) -> Placed:
    """What computes a session, and why that is not what should."""
    if session.get_providers()[0] == CUDA:
        return Placed(f"cuda:{session.get_provider_options()[CUDA].get('device_id', 0)}")
    wish = wish if gpu_number(wish) is not None else PROCESSOR
    if CUDA in ort.get_available_providers():
        return settle(wish, 0, "onnxruntime cannot use that GPU")
    return settle(wish, 0, "this onnxruntime has no CUDA; install onnxruntime-gpu instead of onnxruntime")


def _libraries() -> dict[str, str]:
    return {"onnxruntime": ort.__version__}


class OnnxAdapter:
    """Models in ONNX: our compiled variants, and ``.onnx`` files from anywhere."""

    name = "onnx"
    suffixes = (".onnx",)

    def read(self, path: Path, *, sample: Any | None, trust: bool, hints: Hints = NO_HINTS) -> Trained:
        """Take in an ``.onnx`` file. It holds no code, so ``trust`` does not matter.

        Raises:
            ArtifactUnreadable: empty, truncated or no ONNX model.
            ArtifactUnsupported: its inputs have a form that Servable cannot feed.
            DataError: the sample does not fit the model.
            SettingInvalid: a hint contradicts the model.
        """
        session = open_session(path)
        signature, options = onnx_signature.derive(session, path, sample)
        outputs = onnx_signature.raw_outputs(session)
        signature, options = onnx_hinted.applied(signature, options, outputs, path, hints)
        return Trained(
            model=path,
            signature=signature,
            options=options,
            libraries=_libraries(),
        )

    def write(self, trained: Trained, folder: Path) -> Variant:
        """Copy the file, and the tensor files that it names, into the package."""
        source = Path(trained.model)
        with storage_errors("copying the model"):
            for extra in outside_files(source):
                shutil.copyfile(extra, folder / extra.name)
            shutil.copyfile(source, folder / "model.onnx")
        return Variant(name=TRAINED, format=self.name, path="model.onnx", options=dict(trained.options))

    def restore(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Trained:
        """The file in a package with what is known of it; nothing is loaded yet."""
        return Trained(folder / variant.path, signature, variant.options, _libraries())

    def load(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Predictor:
        """A predictor over a variant's file.

        Raises:
            ArtifactUnreadable: the file or its options are damaged.
        """
        try:
            path = folder / variant.path
            return _predictor(path, open_session(path, variant.options), variant.options)
        except (KeyError, TypeError, AttributeError) as foreign:
            raise ArtifactUnreadable(f"The options of variant {variant.name!r} are damaged.") from foreign

    def wrap(self, trained: Trained) -> Predictor:
        """A predictor over the file that was read."""
        return OnnxPredictor(open_session(Path(trained.model)), trained.options)


ADAPTER = OnnxAdapter()
