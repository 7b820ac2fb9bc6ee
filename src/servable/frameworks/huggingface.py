"""Hugging Face transformers: folders that ``save_pretrained`` wrote, from this machine alone.

Texts are cut into tokens here, so callers send texts. Nothing is downloaded and no code of a folder is run;
weights come from safetensors, or from a pickle with ``weights_only``. Options of a variant are those of
``torch`` beside ``does``, ``text`` (see ``tokens``) and, for embeddings, ``pooling`` and ``normalise``.
"""

import inspect
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from torch import nn

from servable.artifact.files import storage_errors, write_file
from servable.artifact.manifest import TRAINED, Variant
from servable.artifact.signature import Field, Signature, Task
from servable.errors import ArtifactUnreadable, ModelFailed, SettingInvalid
from servable.frameworks.base import NO_HINTS, STREAMS, Hints, Predictor, Trained
from servable.frameworks.devices import PROCESSOR, Placed, wanted
from servable.frameworks.huggingface_open import KEPT, TOKENIZER, Found, open_folder, read_json, silent
from servable.frameworks.tokens import ENTITIES, TEXT, TOKEN_SCORES, TextPredictor
from servable.frameworks.torch import TorchPredictor, device_for
from servable.frameworks.torch_open import Argument, Opened, quiet
from servable.inputs.text import IDS, MASK, Tokenizer
from servable.tensors import PREDICTION, STRINGS, Arrays

#: Folder of a package for the model.
_FOLDER = "model"
EMBEDDING = "embedding"
GENERATED = "generated_text"
#: Tokens that are generated where the folder does not say.
_NEW_TOKENS = 64


class Inner(nn.Module):  # type: ignore[misc]  # PyTorch is not there when types are checked
    """Transformers' model as tensors in, one tensor out.

    Args:
        model: transformers' own.
        names: of its inputs, in order.
        options: of the variant.
    """

    def __init__(self, model: nn.Module, names: tuple[str, ...], options: Mapping[str, Any]) -> None:
        super().__init__()
        self.model, self.names = model, names
        self.does = str(options["does"])
        self.pooling = str(options.get("pooling", "mean"))
        self.normalise = bool(options.get("normalise"))
        self.several = bool(options.get("several"))
        self.training = False

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Logits of rows; for tokens their probabilities; embeddings."""
        given = dict(zip(self.names, tensors, strict=True))
        outputs = self.model(**given, return_dict=True)
        if self.does == "tokens":
            return outputs.logits.softmax(-1)
        if self.does != "embed":
            return outputs.logits.sigmoid() if self.several else outputs.logits
        hidden = outputs.last_hidden_state
        if self.pooling == "cls" or "attention_mask" not in given:
            pooled = hidden[:, 0]
        else:
            mask = given["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return nn.functional.normalize(pooled, dim=1) if self.normalise else pooled


class Model(NamedTuple):
    """A trained model: what the folder holds, and the same as ``torch`` knows it."""

    found: Found
    opened: Opened


class GeneratingPredictor:
    """Continues texts, the likeliest token each time, whole or in pieces. One call at a time."""

    concurrent = False

    def __init__(self, found: Found, options: Mapping[str, Any], placed: Placed) -> None:
        self.device, self.device_note = placed
        self._place = torch.device(placed.device)
        self._model: Any = found.model.to(self._place)
        self._gpu = self._place.type == "cuda"
        self._tokenizer = Tokenizer(found.tokenizer, TOKENIZER, options[TEXT], left=True)
        self._new = int(options["new_tokens"])
        self._positions = "position_ids" in inspect.signature(found.model.forward).parameters
        ends = getattr(getattr(found.model, "generation_config", None), "eos_token_id", None)
        self._ends = frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])

    @property
    def accelerator_bytes(self) -> int:
        """What PyTorch keeps of the memory of its GPU in this process; 0 on the processor."""
        return torch.cuda.memory_reserved(self._place) if self._gpu else 0

    def predict(self, arrays: Arrays) -> dict[str, Any]:
        """The continuations of all texts, without the texts themselves.

        Raises:
            ModelFailed: the model raised.
        """
        texts = arrays[STRINGS][:, 0].tolist()
        made: list[list[int]] = [[] for _ in texts]
        for tokens in self._steps(texts):
            for row, token in zip(made, tokens, strict=True):
                if token is not None:
                    row.append(token)
        said = np.empty(len(texts), dtype=object)
        said[:] = [self._tokenizer.decode(row) for row in made]
        return {GENERATED: said}

    def stream(self, arrays: Arrays) -> Iterator[dict[str, Any]]:
        """The continuation of one text, in pieces as they are made; see the seam.

        Raises:
            ModelFailed: the model raised.
        """
        made: list[int] = []
        sent = text = ""
        for (token,) in self._steps(arrays[STRINGS][:1, 0].tolist()):
            if token is None:
                break
            made.append(token)
            text = self._tokenizer.decode(made)
            # Part of a character is no text yet, and a word may still change what stands before it.
            if text.endswith("\ufffd") or not text.startswith(sent) or text == sent:
                continue
            yield _piece(text[len(sent) :])
            sent = text
        if text != sent and text.startswith(sent):
            yield _piece(text[len(sent) :])

    def close(self) -> None:
        """Drop the model; its memory goes with the last reference."""
        self._model = None

    def _steps(self, texts: list[str]) -> Iterator[list[int | None]]:
        """The next token of each text, one step after the other; None for texts that have ended."""
        try:
            tokens, _ = self._tokenizer.encode(texts)
            ids = torch.from_numpy(tokens[IDS]).to(self._place)
            mask = torch.from_numpy(tokens[MASK]).to(self._place)
            past, open_rows = None, [True] * len(texts)
            for _ in range(self._new):
                given = {"input_ids": ids, "attention_mask": mask, "past_key_values": past}
                if self._positions:
                    places = (mask.cumsum(-1) - 1).clamp(min=0)
                    given["position_ids"] = places[:, -ids.shape[1] :]
                # Only around the model: whoever takes a token must not find itself in this mode.
                with torch.inference_mode(), quiet(), silent():
                    outputs = self._model(**given, use_cache=True, return_dict=True)
                    best = outputs.logits[:, -1].argmax(-1)
                    mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
                past, ids = outputs.past_key_values, best.unsqueeze(1)
                chosen = best.tolist()
                open_rows = [
                    still and token not in self._ends for still, token in zip(open_rows, chosen, strict=True)
                ]
                yield [token if still else None for still, token in zip(open_rows, chosen, strict=True)]
                if not any(open_rows):
                    return
        except Exception as foreign:  # Whatever the library raises becomes one sentence.
            raise ModelFailed(
                f"The trained model failed on {len(texts)} rows ({type(foreign).__name__})."
            ) from foreign


def _piece(text: str) -> dict[str, Any]:
    return {GENERATED: np.array([text], dtype=object)}


class TransformersAdapter:
    """Folders of transformers."""

    name = "transformers"
    suffixes: tuple[str, ...] = ()

    def read(self, path: Path, *, sample: Any | None, trust: bool, hints: Hints = NO_HINTS) -> Trained:
        """Take in a folder. Nothing in it is executed, so ``trust`` does not matter.

        Raises:
            ArtifactUnreadable: a file is missing or damaged.
            ArtifactUnsupported: a model that is not served.
            SettingInvalid: a hint contradicts the model.
        """
        found = open_folder(path)
        if hints.labels:
            if not found.labels or len(hints.labels) != len(found.labels):
                raise SettingInvalid(
                    f"{path.name} has {len(found.labels)} classes, and {len(hints.labels)} labels were given."
                )
            found = found._replace(labels=tuple(map(str, hints.labels)))
        options = _options(found)
        signature = _signature(found, options)
        return Trained(Model(found, _opened(found, options)), signature, options, _libraries())

    def write(self, trained: Trained, folder: Path) -> Variant:
        """Copy what is needed of the folder, and its tokenizer as one file."""
        found: Found = trained.model.found
        target = folder / _FOLDER
        with storage_errors("copying the model"):
            target.mkdir()
            shards = sorted(each.name for each in found.folder.glob("model-*.safetensors"))
            for name in (*KEPT, *shards):
                if (found.folder / name).is_file():
                    (target / name).parent.mkdir(exist_ok=True)
                    shutil.copyfile(found.folder / name, target / name)
            if found.tokenizer:
                write_file(target / TOKENIZER, found.tokenizer.encode())
        return Variant(name=TRAINED, format=self.name, path=_FOLDER, options=dict(trained.options))

    def restore(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Trained:
        """The model of a package in memory.

        Raises:
            ArtifactUnreadable: damaged.
        """
        found = open_folder(folder / variant.path)
        labels = variant.options.get("labels")
        if labels:
            found = found._replace(labels=tuple(labels))
        return Trained(
            Model(found, _opened(found, variant.options)), signature, variant.options, _libraries()
        )

    def load(self, folder: Path, variant: Variant, signature: Signature, *, trust: bool) -> Predictor:
        """A predictor over the model in a package, on the device that its options ask for."""
        trained = self.restore(folder, variant, signature, trust=trust)
        try:
            return _predictor(trained.model, variant.options, device_for(wanted(variant.options)))
        except (KeyError, TypeError, AttributeError, ValueError) as foreign:
            raise ArtifactUnreadable(f"The options of variant {variant.name!r} are damaged.") from foreign

    def wrap(self, trained: Trained) -> Predictor:
        """A predictor over the model in memory, on the processor."""
        return _predictor(trained.model, trained.options, Placed(PROCESSOR))


def _predictor(model: Model, options: Mapping[str, Any], placed: Placed) -> Predictor:
    if options["does"] == "generate":
        return GeneratingPredictor(model.found, options, placed)
    inner = TorchPredictor(model.opened, options, placed)
    if TEXT not in options:
        return inner
    return TextPredictor(Tokenizer(model.found.tokenizer, TOKENIZER, options[TEXT]), inner, options[TEXT])


def _options(found: Found) -> dict[str, Any]:
    """How a folder's model is fed and read."""
    config = found.config
    dtype = "float32" if found.does == "image" else "int64"
    options: dict[str, Any] = {
        "does": found.does,
        "feeds": [
            {"input": name, "source": "image" if found.does == "image" else name, "dtype": dtype}
            for name in found.inputs
        ],
        "head": "logits",
        "batch": 0,
        "labels": list(found.labels),
    }
    if found.does != "image":
        text: dict[str, Any] = {
            "inputs": list(found.inputs),
            "max_length": found.max_length,
            "pad": found.pad,
        }
        options[TEXT] = text
    if found.does == "tokens":
        options |= {"head": "raw", "outputs": [TOKEN_SCORES]}
        text |= {"answer": ENTITIES, "labels": list(found.labels)}
    elif found.does == "embed":
        options |= {"head": "raw", "outputs": [EMBEDDING], **_pooling(found.folder)}
    elif found.does == "generate":
        given = getattr(found.model, "generation_config", None)
        options[STREAMS] = True
        options["new_tokens"] = int(getattr(given, "max_new_tokens", None) or _NEW_TOKENS)
        text["max_length"] = max(1, found.max_length - options["new_tokens"])
    elif getattr(config, "problem_type", None) == "multi_label_classification":
        options |= {"head": "raw", "outputs": ["scores"], "several": True}
    elif len(found.labels) == 1:
        options["head"] = "value"
    return options


def _pooling(folder: Path) -> dict[str, Any]:
    """How sentence-transformers make one vector of a text, where the folder is theirs; else the mean."""
    pooling, normalise = "mean", False
    if (folder / "1_Pooling/config.json").is_file():
        given = read_json(folder / "1_Pooling/config.json")
        pooling = "cls" if given.get("pooling_mode_cls_token") else "mean"
    if (folder / "modules.json").is_file():
        normalise = "models.Normalize" in (folder / "modules.json").read_text(encoding="utf-8")
    return {"pooling": pooling, "normalise": normalise}


def _signature(found: Found, options: Mapping[str, Any]) -> Signature:
    """What a folder's model takes and gives."""
    text = Field(name="text", kind="text", dtype="str", example="An example.")
    if found.does == "image":
        size, channels = found.config.image_size, getattr(found.config, "num_channels", 3)
        shape = (channels, size, size) if found.image is None else found.image.shape
        inputs: tuple[Field, ...] = (
            Field(name="image", kind="image", dtype="float32", shape=shape, preparation=found.image),
        )
    else:
        inputs = (text,)
    task, answer = _answer(found, options)
    return Signature(
        task=task,
        inputs=inputs,
        outputs=(answer,),
        probabilities=task == "classification",
        example={} if found.does == "image" else {"text": "An example."},
    )


def _answer(found: Found, options: Mapping[str, Any]) -> tuple[Task, Field]:
    if found.does == "tokens":
        said = "A JSON list of what was found: entity, score, start, end, text."
        return "transform", Field(name=ENTITIES, kind="text", dtype="str", description=said)
    if found.does == "generate":
        return "transform", Field(name=GENERATED, kind="text", dtype="str")
    if found.does == "embed":
        width = int(found.config.hidden_size)
        return "transform", Field(name=EMBEDDING, kind="tensor", dtype="float32", shape=(width,))
    if options["head"] == "value":
        return "regression", Field(name=PREDICTION, kind="number", dtype="float64")
    if options["head"] == "raw":
        said = f"Probabilities, each on its own, of {', '.join(found.labels)}."
        shape = (len(found.labels),)
        return "transform", Field(
            name="scores", kind="tensor", dtype="float32", shape=shape, description=said
        )
    return "classification", Field(name=PREDICTION, kind="category", dtype="str", values=found.labels)


def _opened(found: Found, options: Mapping[str, Any]) -> Opened:
    """The model as ``torch`` knows models."""
    if found.does == "image":
        size = found.image.shape if found.image else (3, found.config.image_size, found.config.image_size)
        arguments: tuple[Argument, ...] = (Argument("pixel_values", "float32", (-1, *size)),)
    else:
        arguments = tuple(Argument(name, "int64", (-1, -1)) for name in found.inputs)
    return Opened(Inner(found.model, found.inputs, options), "weights", arguments, (), found.folder)


def _libraries() -> dict[str, str]:
    return {"transformers": transformers.__version__, "torch": str(torch.__version__)}


ADAPTER = TransformersAdapter()
