"""The compiled form of models of PyTorch: one ONNX graph in the model's own precision."""

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from servable.artifact.manifest import Variant
from servable.frameworks.base import Trained
from servable.frameworks.torch_heads import Headed, answer_names
from servable.frameworks.torch_open import Argument, Opened, quiet
from servable.frameworks.torch_signature import made_up
from servable.optimization.forms import FOLDER, Form
from servable.optimization.graph import Unconvertible
from servable.tensors import PREDICTION, PROBABILITIES

NAME = "onnx-fp32"
#: Tensors beyond this many bytes lie in a file beside the graph, which protobuf limits to 2 GiB.
_LARGEST_IN_FILE = 1_500_000_000


def forms(trained: Trained) -> tuple[Form, ...]:
    """The forms to try, see ``forms.Form``."""
    return (Form(NAME, partial(_make, trained)),)


def _make(trained: Trained, folder: Path) -> Variant:
    """Export and write.

    Raises:
        Unconvertible: PyTorch cannot export the model.
    """
    opened: Opened = trained.model
    options = trained.options
    arguments = described(opened, trained)
    path = f"{FOLDER}/{NAME}.onnx"
    export(
        Headed(opened.module, options["head"]),
        tuple(made_up(each, int(options["batch"]) or 2) for each in arguments),
        folder / path,
        inputs=[each.name for each in arguments],
        outputs=graph_names(options),
        dynamic=None if options["batch"] else [free_axes(each) for each in arguments],
        scripted=opened.style == "script",
    )
    return Variant(name=NAME, format="onnx", path=path, options=_options(trained, arguments))


def described(opened: Opened, trained: Trained) -> tuple[Argument, ...]:
    """The arguments with what the signature says where the file says nothing."""
    feeds = trained.options["feeds"]
    whole = []
    for argument, feed in zip(opened.arguments, feeds, strict=True):
        if argument.shape is None:
            packed = trained.signature.packed(feed["source"])
            shape = (len(packed),) if packed else trained.signature.input(feed["source"]).shape
            argument = argument._replace(shape=(-1, *shape))
        whole.append(argument._replace(dtype=str(feed["dtype"])))
    return tuple(whole)


def free_axes(argument: Argument) -> dict[int, str]:
    """Names for the axes that may have any size: the rows, and what the model leaves open."""
    shape = argument.shape or (-1,)
    return {
        place: f"{argument.name}_{place}" if place else "rows" for place, size in enumerate(shape) if size < 0
    }


def export(
    module: nn.Module,
    given: tuple[torch.Tensor, ...],
    path: Path,
    *,
    inputs: list[str],
    outputs: list[str],
    dynamic: list[dict[int, str]] | None,
    scripted: bool = False,
) -> None:
    """Write a module as an ONNX file.

    Args:
        module: takes tensors in order, gives a tuple of them.
        given: rows to export with, at least two where the rows are free.
        path: where to.
        inputs: names of the graph's inputs.
        outputs: names of the graph's outputs.
        dynamic: for each input the names of its free axes; None for none at all.
        scripted: whether it holds TorchScript, which only the older exporter takes.

    Raises:
        Unconvertible: PyTorch cannot export it, and why.
    """
    size = sum(each.numel() * each.element_size() for each in (*module.parameters(), *module.buffers()))
    try:
        with _silent(), torch.no_grad():
            if scripted:
                axes = dict(zip(inputs, dynamic or (), strict=False))
                axes |= {name: {0: "rows"} for name in outputs} if dynamic else {}
                torch.onnx.export(
                    torch.jit.trace(module, given, check_trace=False),
                    given,
                    str(path),
                    input_names=inputs,
                    output_names=outputs,
                    dynamic_axes=axes,
                    dynamo=False,
                )
                return
            program = torch.onnx.export(
                module,
                given,
                input_names=inputs,
                output_names=outputs,
                dynamic_shapes=None if dynamic is None else (tuple(_dims(dynamic)),),
                dynamo=True,
                verbose=False,
            )
            program.save(str(path), external_data=size > _LARGEST_IN_FILE)
    except Exception as foreign:  # Whatever the library raises becomes one sentence.
        told = " ".join(str(foreign).split())[:200].rstrip(".")
        raise Unconvertible(f"PyTorch cannot export it ({type(foreign).__name__}: {told})") from foreign


def _dims(dynamic: list[dict[int, str]]) -> Iterator[dict[int, Any]]:
    """Free axes for the exporter, which finds out itself which of them are of one size."""
    for axes in dynamic:
        yield dict.fromkeys(axes, torch.export.Dim.DYNAMIC)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The exporter speaks to its developers, on every way there is."""
    former = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with quiet(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(former)


def _options(trained: Trained, arguments: tuple[Argument, ...]) -> dict[str, Any]:
    """How the graph is fed and read."""
    feeds = []
    for argument, feed in zip(arguments, trained.options["feeds"], strict=True):
        packed = trained.signature.packed(feed["source"])
        same = not packed and trained.signature.input(feed["source"]).dtype == argument.dtype
        dtype = "asis" if same else argument.dtype
        feeds.append({"input": argument.name, "source": feed["source"], "dtype": dtype})
    outputs = outputs_of(trained.options)
    return {"feeds": feeds, "outputs": outputs, "batch": int(trained.options["batch"])}


def outputs_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """How the graph of ``Headed`` is read."""
    names = dict(zip(answer_names(options), graph_names(options), strict=True))
    if options["head"] == "value":
        return {PREDICTION: {"output": names[PREDICTION], "form": "value"}}
    outputs: dict[str, Any] = {name: {"output": given, "form": "plain"} for name, given in names.items()}
    if options["head"] == "raw":
        return outputs
    return {PREDICTION: {"output": names[PROBABILITIES], "form": "argmax"}, **outputs}


def graph_names(options: Mapping[str, Any]) -> list[str]:
    """Names for the outputs of the graph that none of its inner values has."""
    return [f"answer_{name}" for name in answer_names(options)]
