"""Real models of texts and tokens as ONNX graphs: a bag of words, a table of tokens, and one that answers."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import servable
from servable.artifact.manifest import Manifest, Variant
from servable.artifact.package import write_signature
from servable.artifact.signature import Field, Signature
from servable.registry.home import open_home, publish

WORDS = ("good", "bad", "model", "server")
#: One vector for each word; a text is their sum.
VECTORS = np.array([[1, 0, 0], [-1, 0, 0.5], [0, 2, 0], [0, 1, 1]], np.float32)
#: One vector for each token; a list of tokens is their mean.
TOKENS = np.arange(40, dtype=np.float32).reshape(10, 4)
REPLY = " Indeed."


def vector_of(text: str) -> Any:
    """What the bag of words must give."""
    words = text.split(" ")
    return sum((words.count(word) * VECTORS[index] for index, word in enumerate(WORDS)), np.zeros(3))


def _save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], values: list[Any]) -> Path:
    graph = helper.make_graph(nodes, "texts", inputs, outputs, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def write_embedder(path: Path) -> Path:
    """Texts ``[rows]`` to vectors ``[rows, 3]``."""
    return _save(
        path,
        [
            helper.make_node("StringSplit", ["text"], ["words", "counts"], delimiter=" "),
            helper.make_node(
                "TfIdfVectorizer",
                ["words"],
                ["bag"],
                mode="TF",
                min_gram_length=1,
                max_gram_length=1,
                max_skip_count=0,
                ngram_counts=[0],
                ngram_indexes=list(range(len(WORDS))),
                pool_strings=list(WORDS),
            ),
            helper.make_node("MatMul", ["bag", "vectors"], ["embedding"]),
        ],
        [helper.make_tensor_value_info("text", TensorProto.STRING, [None])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [None, 3])],
        [numpy_helper.from_array(VECTORS, "vectors")],
    )


def write_token_embedder(path: Path) -> Path:
    """Token ids ``[rows, any]`` to vectors ``[rows, 4]``."""
    return _save(
        path,
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"], axis=0),
            helper.make_node("ReduceMean", ["rows", "axes"], ["embedding"], keepdims=0),
        ],
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [None, None])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [None, 4])],
        [numpy_helper.from_array(TOKENS, "table"), numpy_helper.from_array(np.array([1], np.int64), "axes")],
    )


def write_talker(path: Path) -> Path:
    """Texts ``[rows, 1]`` to the same texts with a reply behind each."""
    return _save(
        path,
        [helper.make_node("StringConcat", ["prompt", "reply"], ["text"])],
        [helper.make_tensor_value_info("prompt", TensorProto.STRING, [None, 1])],
        [helper.make_tensor_value_info("text", TensorProto.STRING, [None, 1])],
        [helper.make_tensor("reply", TensorProto.STRING, [1], [REPLY.encode()])],
    )


def publish_column(home: Path) -> None:
    """The bag of words as ``column``, whose signature says that its input is a column of text; deployed."""
    signature = Signature(
        task="transform",
        inputs=(Field(name="text", kind="text", dtype="str", example="good"),),
        outputs=(Field(name="embedding", kind="tensor", dtype="float32", shape=(3,)),),
        example={"text": "good"},
    )
    feed = {"input": "text", "source": "strings", "dtype": "str", "shape": [-1]}
    options = {"feeds": [feed], "outputs": {"embedding": {"output": "embedding"}}}
    with open_home(home) as opened:
        with opened.packages.staging() as staged:
            write_signature(staged, signature)
            write_embedder(staged / "model.onnx")
            variant = Variant(name="trained", format="onnx", path="model.onnx", options=options)
            manifest = Manifest(
                model="column", created_at="2026-01-31T12:00:00Z", framework="onnx", variants=(variant,)
            )
            record = publish(opened, staged, manifest)
        opened.deployments.deploy(record.model, record.version)


def add_texts(home: Path, folder: Path) -> None:
    """Add and deploy ``embedder``, ``tokens`` and ``talker``."""
    for name, write in (
        ("embedder", write_embedder),
        ("tokens", write_token_embedder),
        ("talker", write_talker),
    ):
        servable.add(write(folder / f"{name}.onnx"), name=name, home=home)
        servable.deploy(name, home=home)
