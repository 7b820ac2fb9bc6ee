"""Opening folders that transformers wrote: what is in them; no network, no code of theirs."""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import transformers
from torch import nn

from servable.artifact.preparation import ImageInput
from servable.errors import ArtifactUnreadable, ArtifactUnsupported, ServableError
from servable.frameworks.torch_open import check_weights, quiet
from servable.inputs.text import IDS, MASK, TYPES

Does = Literal["classify", "tokens", "embed", "generate", "image"]

CONFIG, TOKENIZER, PREPROCESSOR = "config.json", "tokenizer.json", "preprocessor_config.json"
#: What a folder needs to be opened again; nothing else of it is copied into a package.
KEPT = (
    CONFIG,
    TOKENIZER,
    PREPROCESSOR,
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "tokenizer_config.json",
    "1_Pooling/config.json",
    "modules.json",
)
_ENDINGS: tuple[tuple[str, Does], ...] = (
    ("ForSequenceClassification", "classify"),
    ("ForTokenClassification", "tokens"),
    ("ForImageClassification", "image"),
    ("ForCausalLM", "generate"),
    ("LMHeadModel", "generate"),
    ("ForMaskedLM", "embed"),
    ("ForPreTraining", "embed"),
    ("Model", "embed"),
)
#: Positions of these begin behind the number of the filling token.
_OFFSET = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl", "data2vec-text"})
_MOST_TOKENS = 8192
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box"}


class Found(NamedTuple):
    """A folder's model in memory.

    Attributes:
        does: what it is for.
        model: transformers' own, in evaluation mode, single precision.
        folder: that it was read from.
        inputs: names of the tensors that it takes.
        labels: of its classes, in order; empty where it has none.
        tokenizer: its ``tokenizer.json``; empty for pictures.
        max_length: most tokens of a text.
        pad: number of the filling token.
        image: how a picture becomes its tensor, where the folder says so.
    """

    does: Does
    model: nn.Module
    folder: Path
    inputs: tuple[str, ...]
    labels: tuple[str, ...] = ()
    tokenizer: str = ""
    max_length: int = 0
    pad: int = 0
    image: ImageInput | None = None

    @property
    def config(self) -> Any:
        """Transformers' configuration."""
        return self.model.config


def open_folder(folder: Path) -> Found:
    """The model of a folder.

    Raises:
        ArtifactUnreadable: a file is missing, damaged or does not fit the others.
        ArtifactUnsupported: an architecture that is not served, or one that needs code of the folder's.
    """
    config = read_json(folder / CONFIG)
    name = next(iter(config.get("architectures") or ()), "")
    does = next((each for ending, each in _ENDINGS if name.endswith(ending)), None)
    kind = getattr(transformers, name, None) if does else None
    if kind is None and config.get("auto_map"):
        raise ArtifactUnsupported(
            f"{folder.name} needs code that lies in it (auto_map), which is never run; export it as ONNX."
        )
    if does is None or kind is None:
        raise ArtifactUnsupported(
            f"{folder.name} is a {name or 'model without architectures'}, which is not served; served are "
            "models for sequence, token and image classification, for causal language, and base models."
        )
    model = _model(folder, transformers.AutoModel if does == "embed" else kind)
    labels = tuple(str(model.config.id2label[place]) for place in sorted(model.config.id2label or {}))
    labels = labels if does in ("classify", "tokens", "image") else ()
    if does == "image":
        return Found(does, model, folder, ("pixel_values",), labels, image=_image(folder, model.config))
    taken = inspect.signature(model.forward).parameters
    names = [each for each in (IDS, MASK) if each in taken]
    if TYPES in taken and (getattr(model.config, "type_vocab_size", 0) or 0) > 1:
        names.append(TYPES)
    tokenizer = _tokenizer(folder)
    length, pad = _limits(folder, model.config)
    return Found(does, model, folder, tuple(names), labels, tokenizer, length, pad)


def read_json(path: Path) -> dict[str, Any]:
    """An object in a file.

    Raises:
        ArtifactUnreadable: it is none.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as foreign:
        raise ArtifactUnreadable(
            f"{path.name} is missing, empty or no JSON; copy the folder again."
        ) from foreign
    if not isinstance(held, dict):
        raise ArtifactUnreadable(f"{path.name} holds no object; copy the folder again.")
    return held


def _model(folder: Path, kind: Any) -> nn.Module:
    safe = any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json"))
    if not safe and not (folder / "pytorch_model.bin").is_file():
        raise ArtifactUnreadable(f"{folder.name} holds no model.safetensors; save it with save_pretrained.")
    if not safe:
        check_weights(folder / "pytorch_model.bin")
    try:
        with quiet(), silent():
            model, about = kind.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=safe,
                trust_remote_code=False,
                dtype=torch.float32,
                attn_implementation="eager",
                output_loading_info=True,
            )
    except ServableError:
        raise
    except Exception as foreign:  # Whatever the library raises becomes one sentence.
        told = (str(foreign).strip().splitlines() or [""])[0][:160].rstrip(".")
        raise ArtifactUnreadable(
            f"{folder.name} cannot be loaded by transformers {transformers.__version__} "
            f"({type(foreign).__name__}: {told}); save it again with this version."
        ) from foreign
    missing = sorted(name for name in about["missing_keys"] if "pooler" not in name)
    if missing:
        raise ArtifactUnreadable(
            f"The weights in {folder.name} lack {len(missing)} tensors, such as {missing[0]}; copy it again."
        )
    loaded: nn.Module = model.eval()
    return loaded


class silent:  # noqa: N801 - reads as what it does
    """Transformers draws bars and tells of weights that are not used; neither helps whoever serves it."""

    def __enter__(self) -> None:
        self._level = transformers.logging.get_verbosity()
        self._bars = transformers.logging.is_progress_bar_enabled()
        transformers.logging.set_verbosity(transformers.logging.CRITICAL)
        transformers.logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        transformers.logging.set_verbosity(self._level)
        if self._bars:
            transformers.logging.enable_progress_bar()


def _tokenizer(folder: Path) -> str:
    """The folder's tokenizer as the text of a ``tokenizer.json``; made from older files where it has none."""
    path = folder / TOKENIZER
    try:
        if path.is_file():
            return path.read_text(encoding="utf-8")
        with quiet(), silent():
            made = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_fast=True
            )
        return str(made.backend_tokenizer.to_str())
    except Exception as foreign:  # Whatever the library raises becomes one sentence.
        raise ArtifactUnreadable(
            f"{folder.name} holds no tokenizer that can be read; save the tokenizer into it with "
            "save_pretrained."
        ) from foreign


def _limits(folder: Path, config: Any) -> tuple[int, int]:
    """Most tokens, and the number of the filling token."""
    pad = getattr(config, "pad_token_id", None)
    sizes = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
    if config.model_type in _OFFSET:
        sizes = [size - (pad or 0) - 1 if size else None for size in sizes]
    if (folder / "tokenizer_config.json").is_file():
        # The library writes an astronomical number where there is no limit.
        sizes.append(read_json(folder / "tokenizer_config.json").get("model_max_length"))
    known = [int(size) for size in sizes if isinstance(size, int | float) and 0 < size < 10**9]
    end = getattr(config, "eos_token_id", None)
    fill = pad if isinstance(pad, int) else end if isinstance(end, int) else 0
    return min([*known, _MOST_TOKENS]), fill


def _image(folder: Path, config: Any) -> ImageInput | None:
    """How a picture becomes the tensor, as far as the folder's own description can be followed."""
    if not (folder / PREPROCESSOR).is_file():
        return None
    given = read_json(folder / PREPROCESSOR)
    size, cut = given.get("size") or {}, given.get("crop_size") or {}
    size = {"height": size, "width": size} if isinstance(size, int) else size
    cut = {"height": cut, "width": cut} if isinstance(cut, int) else cut
    edge = size.get("shortest_edge")
    cropped = bool(given.get("do_center_crop") and cut)
    final = cut if cropped else size if edge is None else {"height": edge, "width": edge}
    if not final.get("height") or not final.get("width"):
        return None
    share = 1.0
    if cropped:
        share = min(1.0, final["height"] / (edge or size.get("height") or final["height"]))
    elif edge is not None:
        share = float(given.get("crop_pct") or 1.0)
    return ImageInput(
        width=int(final["width"]),
        height=int(final["height"]),
        channels=1 if getattr(config, "num_channels", 3) == 1 else 3,
        fit="stretch" if edge is None else "cover",
        resample=_RESAMPLE.get(given.get("resample", 2), "bilinear"),  # type: ignore[arg-type]  # By the table.
        crop=share,
        scale=float(given.get("rescale_factor", 1 / 255)) if given.get("do_rescale", True) else 1.0,
        mean=_channels(given, "image_mean"),
        std=_channels(given, "image_std"),
    )


def _channels(given: Mapping[str, Any], key: str) -> tuple[float, ...]:
    values = given.get(key) if given.get("do_normalize", True) else None
    return tuple(map(float, values)) if isinstance(values, list) else ()
