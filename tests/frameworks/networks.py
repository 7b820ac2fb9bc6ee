"""Small networks of Keras and SavedModels, made on the spot; imported where TensorFlow is installed."""

from pathlib import Path
from typing import Any

import numpy as np

from servable.frameworks.quiet import imported

keras = imported("keras")
tf = imported("tensorflow")
layers = keras.layers


def network(kind: str) -> Any:
    """A model with weights from a seed."""
    keras.utils.set_random_seed(0)
    made = {
        "pictures": lambda: keras.Sequential(
            [
                keras.Input((8, 8, 1), name="picture"),
                layers.Conv2D(4, 3, activation="relu"),
                layers.BatchNormalization(),
                layers.MaxPool2D(),
                layers.Flatten(),
                layers.Dropout(0.3),
                layers.Dense(3, activation="softmax"),
            ]
        ),
        "logits": lambda: keras.Sequential(
            [keras.Input((4,), name="x"), layers.Dense(5, "gelu"), layers.Dense(3)]
        ),
        "sure": lambda: keras.Sequential([keras.Input((4,), name="x"), layers.Dense(1, "sigmoid")]),
        "value": lambda: keras.Sequential([keras.Input((4,), name="x"), layers.Dense(1)]),
        "several": _several,
        "sequence": lambda: keras.Sequential(
            [keras.Input((None, 4), name="steps"), layers.LSTM(5), layers.Dense(3)]
        ),
        "lambda": lambda: keras.Sequential(
            [keras.Input((4,), name="x"), layers.Lambda(lambda x: x * 2.0), layers.Dense(3)]
        ),
    }
    return made[kind]()


def _several() -> Any:
    """Two inputs and two outputs, by name."""
    first, second = keras.Input((3,), name="first"), keras.Input((2,), name="second")
    joined = layers.Concatenate()([first, second])
    outputs = {"sum": layers.Dense(2, name="sum")(joined), "part": layers.Dense(1, name="part")(second)}
    return keras.Model({"first": first, "second": second}, outputs)


def saved(kind: str, folder: Path) -> Path:
    """The network as a ``.keras`` file."""
    path = folder / f"{kind}.keras"
    network(kind).save(path)
    return path


def exported(kind: str, folder: Path) -> Path:
    """The network as a SavedModel."""
    path = folder / kind
    network(kind).export(str(path), verbose=False)
    return path


class Writer(tf.Module):  # type: ignore[misc, name-defined] - TensorFlow has no types
    """A SavedModel whose graph writes a file when it runs."""

    def __init__(self, marker: Path) -> None:
        super().__init__()
        self._marker = str(marker)

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def __call__(self, x: Any) -> Any:
        """Twice the input."""
        tf.io.write_file(self._marker, "run")
        return {"y": x * 2.0}


def rows(kind: str, count: int = 5) -> dict[str, Any]:
    """Named inputs for a network."""
    generator = np.random.default_rng(1)
    shapes: dict[str, dict[str, tuple[int, ...]]] = {
        "pictures": {"picture": (8, 8, 1)},
        "several": {"first": (3,), "second": (2,)},
        "sequence": {"steps": (6, 4)},
    }
    return {
        name: generator.normal(size=(count, *shape)).astype(np.float32)
        for name, shape in shapes.get(kind, {"x": (4,)}).items()
    }
