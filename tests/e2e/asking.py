"""Models of other frameworks behind a real server: the same rows over HTTP and gRPC, in either form."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import triton_to_np_dtype

from servable.artifact.manifest import TRAINED
from servable.registry.home import open_home, republish

Columns = Mapping[str, Any]


class Wanted(NamedTuple):
    """What the framework itself answers: labels or values, and probabilities where it has them."""

    answers: list[Any]
    probabilities: Any = None


def let_the_trained_form_serve(home: Path, reference: str) -> None:
    """Publish a version's package anew with the trained form as the one that serves."""
    with open_home(home) as place:
        record = place.models.resolve(reference)
        package = place.package(record)
        with place.packages.staging() as folder:
            for entry in package.manifest.files:
                target = folder / entry.path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(package.folder / entry.path, target)
            manifest = msgspec.structs.replace(package.manifest, serving=TRAINED, files=())
            republish(place, folder, manifest, record, reason="test")


def check_served(url: str, name: str, columns: Columns, wanted: Wanted, tolerance: float) -> None:
    """Ask for the same rows over HTTP and over gRPC, and hold both against what the framework answers."""
    for answers, probabilities in (_over_http(url, name, columns), _over_grpc(url, name, columns)):
        if isinstance(wanted.answers[0], float):
            np.testing.assert_allclose(answers, wanted.answers, rtol=tolerance, atol=tolerance)
        else:
            assert list(answers) == wanted.answers
        if wanted.probabilities is not None:
            np.testing.assert_allclose(probabilities, wanted.probabilities, rtol=0, atol=tolerance)


def _over_http(url: str, name: str, columns: Columns) -> tuple[list[Any], Any]:
    count = len(next(iter(columns.values())))
    rows = [{key: _plain(values[row]) for key, values in columns.items()} for row in range(count)]
    answer = httpx.post(f"{url}/models/{name}/predict", json={"inputs": rows}, timeout=60)
    assert answer.status_code == 200, answer.text[:500]
    body = answer.json()
    chances = body.get("probabilities")
    return body["predictions"], chances and [list(row.values()) for row in chances]


def _plain(value: Any) -> Any:
    """A value as JSON has it; NaN is missing."""
    held = value.tolist() if isinstance(value, np.generic | np.ndarray) else value
    return None if isinstance(held, float) and held != held else held


def _over_grpc(url: str, name: str, columns: Columns) -> tuple[list[Any], Any]:
    with triton.InferenceServerClient(url.removeprefix("http://")) as client:
        shown = client.get_model_metadata(name)
        inputs = []
        for port in shown.inputs:
            array = _given(port, columns)
            tensor = triton.InferInput(port.name, array.shape, port.datatype)
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        answer = client.infer(name, inputs)
    found = answer.as_numpy("prediction")
    texts = found.dtype == object
    return [value.decode() if texts else value for value in found.tolist()], answer.as_numpy("probabilities")


def _given(port: Any, columns: Columns) -> NDArray[Any]:
    """An input as the server shows it: a column, a tensor, or all numbers as one matrix."""
    if port.name in columns:
        held = np.asarray(columns[port.name])
        held = held.reshape(len(held), *(held.shape[1:] or [1] * (len(port.shape) - 1)))
    else:
        held = np.column_stack([np.asarray(values, dtype=np.float64) for values in columns.values()])
    if port.datatype == "BYTES":
        return held.astype(object)
    return np.ascontiguousarray(held, dtype=triton_to_np_dtype(port.datatype))
