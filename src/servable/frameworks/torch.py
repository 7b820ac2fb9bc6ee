"""PyTorch: exported programs (``.pt2``), TorchScript, and weights for a class that the user names.

The first two are data as long as they only compute, see ``artifact.torch_files``. A class is code: its file
is copied into the package, loading it needs trust, and it runs in a process of its own. Its options::

    {"style": "program", "head": "logits", "batch": 0,
     "feeds": [{"input": "x", "source": "x", "dtype": "float32"}], "outputs": ["y"]}

with ``entry`` (``code/net.py:Net``) for weights. ``batch`` is the number of rows that a program exported
with a fixed one takes at once.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from servable.artifact.files import storage_errors
from servable.artifact.manifest import TRAINED, Variant
from servable.artifact.signature import Signature
from servable.errors import ArtifactUnreadable, FileMissing, ModelFailed, SettingInvalid
from servable.frameworks.base import EXECUTES, NO_HINTS, Hints, Predictor, Trained
from servable.frameworks.devices import PROCESSOR, Placed, settle, wanted
from servable.frameworks.fixed_batch import in_batches
from servable.frameworks.torch_heads import Headed, answer_names, to_array
from servable.frameworks.torch_open import Opened, open_model, quiet
from servable.frameworks.torch_signature import derive
from servable.tensors import PREDICTION, PROBABILITIES, Arrays, row_count

#: Folder of a package for the file of an entry and what lies beside it.
_CODE = "code"


class TorchPredictor:
    """A module behind packed arrays. One call at a time.

    Attributes:
        device: where it runs.
        device_note: why it is not where it should be; empty when it is.
    """

    concurrent = False

    def __init__(self, opened: Opened, options: Mapping[str, Any], placed: Placed) -> None:
        self.device, self.device_note = placed
        self._device = torch.device(placed.device)
        self._gpu = self._device.type == "cuda"
        headed = Headed(opened.module, options["head"])
        if self._gpu:
            headed = headed.to(self._device)
        self._model: Any = headed
        self._feeds = [(str(feed["source"]), getattr(torch, str(feed["dtype"]))) for feed in options["feeds"]]
        self._head = str(options["head"])
        self._names = answer_names(options)
        self._batch = int(options.get("batch", 0))

    def predict(self, arrays: Arrays) -> dict[str, Any]:
        """Answer all rows.

        Raises:
            ModelFailed: the module raised.
        """
        try:
            if self._batch and row_count(arrays) != self._batch:
                return in_batches(self._answer, arrays, self._batch)
            return self._answer(arrays)
        except Exception as foreign:  # Whatever the library raises becomes one sentence.
            raise ModelFailed(
                f"The trained model failed on {row_count(arrays)} rows ({type(foreign).__name__})."
            ) from foreign

    @property
    def accelerator_bytes(self) -> int:
        """What PyTorch keeps of the memory of its GPU in this process; 0 on the processor."""
        return torch.cuda.memory_reserved(self._device) if self._gpu else 0

    def close(self) -> None:
        """Drop the module; its memory goes with the last reference."""
        self._model = None

    def _answer(self, arrays: Arrays) -> dict[str, Any]:
        with torch.inference_mode():
            given = [self._given(arrays[source], dtype) for source, dtype in self._feeds]
            outputs = [to_array(each) for each in self._model(*given)]
        answer: dict[str, Any] = dict(zip(self._names, outputs, strict=True))
        if self._head == "value":
            value = answer[PREDICTION].astype(np.float64)
            answer[PREDICTION] = value.reshape(len(value)) if value[0].size == 1 else value
        elif self._head != "raw":
            # Of several largest, and of values that are no numbers, the first wins, as in every variant.
            answer = {PREDICTION: np.argmax(answer[PROBABILITIES], axis=1), **answer}
        return answer

    def _given(self, array: NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
        # PyTorch cannot promise to leave memory alone that it must not write to, and says so each time.
        tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
        if not self._gpu:
            return tensor.to(dtype)
        # Pinned memory is copied to the GPU without the processor waiting for it.
        return tensor.pin_memory().to(self._device, dtype, non_blocking=True)


class TorchAdapter:
    """Models of PyTorch."""

    name = "torch"
    suffixes = (".pt2", ".pt", ".pth", ".safetensors")

    def read(self, path: Path, *, sample: Any | None, trust: bool, hints: Hints = NO_HINTS) -> Trained:
        """Take in a model; see the seam and ``torch_open.open_model``.

        Raises:
            ArtifactUnreadable: empty, truncated, or no file of PyTorch.
            ArtifactUntrusted: it would execute code and ``trust`` is false; nothing was executed.
            ArtifactUnsupported: it takes or gives what cannot be served.
            DataError: the sample does not fit the model.
            SettingInvalid: a hint contradicts the model, or one is needed.
        """
        opened = open_model(path, trust=trust, entry=hints.entry, files=hints.files)
        signature, options = derive(opened, sample, hints)
        return Trained(opened, signature, options, _libraries())

    def write(self, trained: Trained, folder: Path) -> Variant:
        """Copy the file, and the code that an entry names with what lies beside it."""
        opened: Opened = trained.model
        name = f"model{opened.source.suffix.lower()}"
        options = dict(trained.options)
        with storage_errors("copying the model"):
            shutil.copyfile(opened.source, folder / name)
        if opened.entry:
            options["entry"] = _copied_code(opened, folder)
        if opened.executes:
            options[EXECUTES] = True
        return Variant(name=TRAINED, format=self.name, path=name, options=options)

    def restore(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Trained:
        """The model of a package in memory; see the seam.

        Raises:
            ArtifactUntrusted: it would execute code and ``trust`` is false.
            ArtifactUnreadable: damaged.
        """
        entry = str(variant.options.get("entry", ""))
        file, colon, name = entry.rpartition(":")
        if file.endswith(".py"):
            entry = f"{folder / file}{colon}{name}"
        files = tuple(sorted((folder / _CODE).iterdir())) if (folder / _CODE).is_dir() else ()
        try:
            opened = open_model(folder / variant.path, trust=trust, entry=entry, files=files)
        except (OSError, FileMissing) as foreign:
            raise ArtifactUnreadable(f"{variant.path} of the package cannot be read: {foreign}.") from foreign
        return Trained(opened, signature, variant.options, _libraries())

    def load(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Predictor:
        """A predictor over the model in a package, on the device that its options ask for."""
        trained = self.restore(folder, variant, signature, trust=trust)
        try:
            return TorchPredictor(trained.model, variant.options, device_for(wanted(variant.options)))
        except (KeyError, TypeError, AttributeError, ValueError) as foreign:
            raise ArtifactUnreadable(f"The options of variant {variant.name!r} are damaged.") from foreign

    def wrap(self, trained: Trained) -> Predictor:
        """A predictor over the model in memory, on the processor."""
        return TorchPredictor(trained.model, trained.options, Placed(PROCESSOR))


def device_for(wish: str) -> Placed:
    """The device for a wish, as PyTorch sees this machine."""
    with quiet():
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return settle(wish, gpus, "PyTorch sees no GPU that it can use")


def _copied_code(opened: Opened, folder: Path) -> str:
    """The entry's file and what lies beside it, copied into the package; the entry from there.

    Raises:
        SettingInvalid: two of the files have one name.
    """
    place, colon, name = opened.entry.rpartition(":")
    files = list(opened.files)
    if place.endswith(".py") and Path(place).resolve() not in {file.resolve() for file in files}:
        files.append(Path(place))
    with storage_errors("copying the code of the model"):
        for file in files:
            target = folder / _CODE / file.name
            if target.exists():
                raise SettingInvalid(f"Two files of the model are called {file.name}; rename one of them.")
            target.parent.mkdir(exist_ok=True)
            if file.is_dir():
                shutil.copytree(file, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(file, target)
    return f"{_CODE}/{Path(place).name}{colon}{name}" if place.endswith(".py") else opened.entry


def _libraries() -> dict[str, str]:
    return {"torch": str(torch.__version__), "numpy": np.__version__}


ADAPTER = TorchAdapter()
