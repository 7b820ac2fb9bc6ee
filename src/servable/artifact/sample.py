"""Held-out rows kept in a package, in packed form, for proofs that are made later.

``sample.npz`` is a zip of ``.npy`` members without pickle. An array of numbers ``x`` is the member
``n:x.npy``. An array of texts is three: its UTF-8 bytes ``u:x.npy``, the end of each text in them
``e:x.npy`` and its shape ``s:x.npy``; a fixed-width array would grow with the longest text and drop
trailing NULs.

``truth.npz``, of the same form, holds the true answers to those rows where they are known: a class index
int64 or a value float64 for each. They are a file of their own, so that nobody takes them for an input.
"""

import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.artifact.files import write_file
from servable.artifact.manifest import ANSWERS_FILE, SAMPLE_FILE, TRUTH_FILE
from servable.errors import ArtifactUnreadable
from servable.tensors import Arrays

#: What reading a damaged zip of arrays raises.
DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, ValueError, KeyError, EOFError, NotImplementedError)


#: Name of the one array in ``truth.npz``.
_TRUTH = "truth"


def write_sample(folder: Path, arrays: Arrays) -> None:
    """Put held-out rows into a package that is being made.

    Args:
        folder: the package.
        arrays: packed arrays; object arrays must hold texts only. Equal arrays give equal bytes.

    Raises:
        TypeError: an object array holds something other than texts, a fault of the caller.
        StorageFull: no space left.
        StorageFailed: the storage failed.
    """
    write_file(folder / SAMPLE_FILE, packed(arrays))


def write_truth(folder: Path, truth: NDArray[Any]) -> None:
    """Put the true answers to the sample's rows into a package that is being made.

    Args:
        folder: the package.
        truth: class index int64 or value float64 ``[rows]``, in the order of the sample.

    Raises:
        StorageFull: no space left.
        StorageFailed: the storage failed.
    """
    write_file(folder / TRUTH_FILE, packed({_TRUTH: truth}))


def write_answers(folder: Path, answers: Arrays) -> None:
    """Put answers to some of the sample's rows into a package that is being made.

    Args:
        folder: the package.
        answers: numbers ``[rows, numbers]``, by output.

    Raises:
        StorageFull: no space left.
        StorageFailed: the storage failed.
    """
    write_file(folder / ANSWERS_FILE, packed(answers))


def packed(arrays: Arrays) -> bytes:
    """Arrays as the bytes of such a file.

    Raises:
        TypeError: an object array holds something other than texts.
    """
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            for key, member in _members(name, np.asarray(array)).items():
                # ZipInfo without a date keeps the bytes equal from run to run.
                entry = zipfile.ZipInfo(f"{key}.npy")
                entry.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(entry, "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, member, allow_pickle=False)
    return buffer.getvalue()


def read_sample(folder: Path) -> dict[str, NDArray[Any]]:
    """The rows kept in a package, as they were written; texts come back as object arrays of str.

    Raises:
        ArtifactUnreadable: there is no sample, or it is damaged.
    """
    if not (folder / SAMPLE_FILE).is_file():
        raise ArtifactUnreadable(f"The package {folder} keeps no sample rows.")
    return unpacked(folder / SAMPLE_FILE)


def read_truth(folder: Path) -> NDArray[Any] | None:
    """The true answers to the sample's rows; None where the package keeps none.

    Raises:
        ArtifactUnreadable: they are damaged.
    """
    path = folder / TRUTH_FILE
    if not path.is_file():
        return None
    truth = unpacked(path).get(_TRUTH)
    if truth is None or truth.ndim != 1:
        raise ArtifactUnreadable(f"{TRUTH_FILE} of the package {folder} holds no true answers.")
    return truth


def read_answers(folder: Path) -> dict[str, NDArray[Any]]:
    """The answers to some of the sample's rows, by output; none where the package keeps none.

    Raises:
        ArtifactUnreadable: they are damaged.
    """
    path = folder / ANSWERS_FILE
    return unpacked(path) if path.is_file() else {}


def unpacked(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of such a file.

    Raises:
        ArtifactUnreadable: it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
        arrays = {
            name.removesuffix(".npy"): np.lib.format.read_array(BytesIO(data), allow_pickle=False)
            for name, data in members.items()
        }
        return {key[2:]: _restored(arrays, key) for key in arrays if key.startswith(("n:", "u:"))}
    except DAMAGE as error:
        raise ArtifactUnreadable(f"{path.name} of the package {path.parent} is damaged: {error}.") from error


def _members(name: str, array: NDArray[Any]) -> dict[str, NDArray[Any]]:
    if array.dtype.kind not in "OU":
        return {f"n:{name}": array}
    texts = array.ravel().tolist()
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(f"the array {name!r} of a sample holds something other than texts")
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    return {
        f"u:{name}": np.frombuffer(b"".join(encoded), np.uint8),
        f"e:{name}": np.cumsum([len(text) for text in encoded], dtype=np.int64),
        f"s:{name}": np.asarray(array.shape, np.int64),
    }


def _restored(arrays: dict[str, NDArray[Any]], key: str) -> NDArray[Any]:
    if key.startswith("n:"):
        return arrays[key]
    name = key[2:]
    data = arrays[key].tobytes()
    ends = arrays[f"e:{name}"].tolist()
    starts = [0, *ends][:-1]
    texts = np.empty(len(ends), dtype=object)
    texts[:] = [
        data[start:end].decode("utf-8", "surrogatepass") for start, end in zip(starts, ends, strict=True)
    ]
    return texts.reshape(arrays[f"s:{name}"])
