"""The compiled form of transformers' models: one ONNX graph, and the tokenizer's file beside it."""

from functools import partial
from pathlib import Path
from typing import Any

import torch

from servable.artifact.files import write_file
from servable.artifact.manifest import Variant
from servable.frameworks.base import Trained
from servable.frameworks.huggingface import Model
from servable.frameworks.tokens import TEXT
from servable.frameworks.torch_heads import Headed
from servable.frameworks.torch_signature import made_up
from servable.inputs.text import Tokenizer
from servable.optimization.forms import FOLDER, Form
from servable.optimization.graph import Unconvertible
from servable.optimization.torch_forms import NAME, export, free_axes, graph_names, outputs_of

#: Texts of different length to export with.
_TEXTS = ("An example.", "A second one, which is somewhat longer than the first.")


def forms(trained: Trained) -> tuple[Form, ...]:
    """The forms to try, see ``forms.Form``."""
    return (Form(NAME, partial(_make, trained)),)


def _make(trained: Trained, folder: Path) -> Variant:
    """Export and write.

    Raises:
        Unconvertible: PyTorch cannot export the model, or it generates.
    """
    model: Model = trained.model
    options = trained.options
    if options["does"] == "generate":
        raise Unconvertible("generating keeps what it has seen in PyTorch, from one token to the next")
    arguments = model.opened.arguments
    compiled: dict[str, Any] = {
        "feeds": [
            {"input": each["input"], "source": each["source"], "dtype": "asis"} for each in options["feeds"]
        ],
        "outputs": outputs_of(options),
    }
    if TEXT in options:
        tokenizer = Tokenizer(model.found.tokenizer, "tokenizer.json", options[TEXT])
        arrays, _ = tokenizer.encode(_TEXTS)
        given = tuple(torch.from_numpy(arrays[each.name]) for each in arguments)
        file = f"{NAME}.tokenizer.json"
        write_file(folder / FOLDER / file, model.found.tokenizer.encode())
        compiled[TEXT] = {**options[TEXT], "file": file}
    else:
        given = tuple(made_up(each, 2) for each in arguments)
    path = f"{FOLDER}/{NAME}.onnx"
    export(
        Headed(model.opened.module, options["head"]),
        given,
        folder / path,
        inputs=[each.name for each in arguments],
        outputs=graph_names(options),
        dynamic=[free_axes(each) for each in arguments],
    )
    return Variant(name=NAME, format="onnx", path=path, options=compiled)
