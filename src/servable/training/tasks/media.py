"""Pictures and sounds as people keep them: folders of classes, a CSV of paths, IDX pairs, npz files.

Whatever the form, what comes out is files as a client would send them, so that training and serving run the
same preparation; arrays of pixels are written as PNG, which loses nothing.
"""

import csv
import gzip
import io
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from servable.errors import DataError, FileMissing

Medium = Literal["image", "audio"]
#: Endings of the files that are read, by what they hold.
ENDINGS: dict[Medium, frozenset[str]] = {
    "image": frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm"}),
    "audio": frozenset({".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif"}),
}
#: How the IDX format begins: two zeros, the type of a byte, the number of axes.
#: http://yann.lecun.com/exdb/mnist/ describes it.
_IDX_BYTES = b"\x00\x00\x08"
_IMAGES, _LABELS = ("images-idx3", "images.idx3"), ("labels-idx1", "labels.idx1")
#: Names under which an npz keeps pictures and labels.
_ARRAYS, _TRUTHS = ("x", "images", "x_train", "data"), ("y", "labels", "y_train", "targets", "target")
#: Words in the name of an IDX file, or of a folder, that holds the rows to be measured on.
_HELD_OUT = ("test", "t10k", "holdout", "val")
#: A class needs so many examples.
FEWEST = 4


class Media(NamedTuple):
    """Labelled files.

    Attributes:
        medium: what they are.
        files: the bytes of each, as a client would send it.
        labels: of each, as text.
        names: of each, for messages: a path or a place.
    """

    medium: Medium
    files: tuple[bytes, ...]
    labels: tuple[str, ...]
    names: tuple[str, ...]


class Listed(NamedTuple):
    """A file that is named somewhere: where it lies, its label or nothing, and how it was named."""

    path: Path
    label: str
    name: str


class Found(NamedTuple):
    """What was read, and the part that the data itself sets aside for measuring, if it does."""

    train: Media
    holdout: Media | None


def is_media(path: Path, target: str | None = None) -> bool:
    """Whether a path holds labelled pictures or sounds: looks at names and first bytes only."""
    if path.is_dir():
        return _idx_pairs(path) != {} or next(_class_files(path), None) is not None
    if path.suffix == ".npz" or (path.is_file() and _is_idx(path)):
        return True
    return path.suffix == ".csv" and path.is_file() and _is_table_of_paths(path, target)


def read(path: Path, *, target: str | None = None) -> Found:
    """Labelled pictures or sounds.

    Args:
        path: a folder with one folder for each class, below ``train`` and ``test`` or not; a folder of IDX
            files, or the IDX file of pictures with that of labels beside it, packed with gzip or not; an npz
            of arrays (``x`` uint8 ``[n, height, width]`` or with channels behind, ``y``); a CSV with a column
            of paths, relative to its folder.
        target: of a CSV, the column with the label; found when there is only one that it could be.

    Raises:
        FileMissing: there is no such file, or one that is named in it.
        DataError: it cannot be read, or holds too little; the sentence says what.
    """
    found = _found(path, target)
    _check(found.train, path)
    return found


def _found(path: Path, target: str | None, usual: str = "") -> Found:
    if not path.exists():
        raise FileMissing(f"There is no data at {path}.")
    if path.is_dir():
        return _of_folder(path)
    if path.suffix == ".npz":
        return Found(_of_npz(path), None)
    if path.suffix == ".csv":
        return Found(_of_table(path, target, usual), None)
    return Found(_of_idx(path, _labels_beside(path)), None)


def read_held(path: Path, *, target: str | None = None, usual: str = "") -> Media:
    """Labelled pictures or sounds to measure a model on: the part that the data sets aside, else all of it.

    Args:
        path: as for ``read``; there may be few of a class, or only one class.
        target: of a CSV, the column with the label.
        usual: the column with the label if there is one of this name and none was said.

    Raises:
        FileMissing: there is no such file, or one that is named in it.
        DataError: it cannot be read; the sentence says what.
    """
    found = _found(path, target, usual)
    return found.train if found.holdout is None else found.holdout


def _check(media: Media, path: Path) -> None:
    counts = Counter(media.labels)
    if len(counts) < 2:
        raise DataError(f"{path.name} holds {len(counts)} class; a classifier needs two or more.")
    label, least = counts.most_common()[-1]
    if least < FEWEST:
        raise DataError(f"Class {label!r} of {path.name} has {least} examples; {FEWEST} are needed at least.")


def _of_folder(folder: Path) -> Found:
    pairs = _idx_pairs(folder)
    if pairs:
        train = [pair for name, pair in pairs.items() if not _held_out(name)]
        rest = [pair for name, pair in pairs.items() if _held_out(name)]
        if len(train) != 1 or len(rest) > 1:
            raise DataError(f"{folder.name} holds several IDX files of pictures; name one of them.")
        return Found(_of_idx(*train[0]), _of_idx(*rest[0]) if rest else None)
    learned, held = parts_of(folder)
    return Found(_of_classes(learned), None if held is None else _of_classes(held))


def parts_of(folder: Path) -> tuple[Path, Path | None]:
    """Where the class folders are: the folder itself, or its ``train`` and the one that is set aside."""
    inner = {entry.name.lower(): entry for entry in folder.iterdir() if entry.is_dir()}
    tests = [entry for name, entry in inner.items() if _held_out(name)]
    if "train" in inner and len(tests) == 1 and len(inner) == 2:
        return inner["train"], tests[0]
    return folder, None


def _held_out(name: str) -> bool:
    return any(name.lower().startswith(word) for word in _HELD_OUT)


def _class_files(folder: Path) -> Iterator[tuple[Path, Medium, str]]:
    """Files in folders of classes: path, what it is, class; two levels deep for ``train`` and ``test``."""
    for inner in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        for file in sorted(inner.rglob("*")):
            for medium, endings in ENDINGS.items():
                if file.suffix.lower() in endings and file.is_file():
                    yield file, medium, inner.name


def _of_classes(folder: Path) -> Media:
    found = list(_class_files(folder))
    media = {medium for _, medium, _ in found}
    if len(media) != 1:
        held = "both pictures and sounds" if media else "no pictures or sounds in folders of classes"
        raise DataError(f"{folder.name} holds {held}; make one folder for each class with its files in it.")
    return Media(
        found[0][1],
        tuple(path.read_bytes() for path, _, _ in found),
        tuple(label for _, _, label in found),
        tuple(path.relative_to(folder).as_posix() for path, _, _ in found),
    )


def _is_table_of_paths(path: Path, target: str | None) -> bool:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.reader(stream)
            return _path_column(path.parent, next(rows, []), next(rows, []), target) is not None
    except (OSError, UnicodeDecodeError, csv.Error):
        return False


def _path_column(folder: Path, header: Sequence[str], first: Sequence[str], target: str | None) -> int | None:
    """The column of a CSV whose first value is a file of a picture or a sound in ``folder``."""
    every = frozenset().union(*ENDINGS.values())
    for place, value in enumerate(first[: len(header)]):
        named = header[place] != target and Path(value).suffix.lower() in every
        if named and (folder / value).is_file():
            return place
    return None


def listed(path: Path, target: str | None, usual: str = "", *, labelled: bool = True) -> list[Listed]:
    """The files that a CSV names, in its order; they are there, and nobody has read them.

    Args:
        path: of the CSV; paths in it are relative to its folder.
        target: the column with the label; None for ``usual``, or for the only one that it could be.
        usual: the column with the label if there is one of this name and none was said.
        labelled: whether labels are wanted; without, the column with them may be missing.

    Raises:
        FileMissing: one of them is not there.
        DataError: the CSV cannot be read, names no files, or does not say which column is the label.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header, *rows = csv.reader(stream)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path.name} is no CSV in UTF-8: {error}.") from error
    except ValueError as error:
        raise DataError(f"{path.name} is empty; a line of column names is expected first.") from error
    place = _path_column(path.parent, header, rows[0] if rows else [], target)
    if place is None:
        raise DataError(f"No column of {path.name} holds paths of pictures or sounds beside it.")
    truth = _label_column(path, header, place, target, usual) if labelled else None
    found = []
    for line, row in enumerate(rows, start=2):
        if not row:
            continue
        if len(row) != len(header):
            raise DataError(f"Line {line} of {path.name} has {len(row)} values instead of {len(header)}.")
        file = path.parent / row[place]
        if not file.is_file():
            raise FileMissing(f"Line {line} of {path.name} names {row[place]}, which is not there.")
        found.append(Listed(file, "" if truth is None else row[truth], row[place]))
    return found


def _label_column(path: Path, header: Sequence[str], place: int, target: str | None, usual: str) -> int:
    """The column with the labels, given that of the paths.

    Raises:
        DataError: there is no such column, or it could be more than one.
    """
    others = [name for index, name in enumerate(header) if index != place]
    target = usual if target is None and usual in others else target
    if target is None and len(others) != 1:
        raise DataError(f"Say which column of {path.name} is the label: --target {' or '.join(others[:5])}.")
    wanted = target or others[0]
    if wanted not in header:
        raise DataError(f"{path.name} has no column {wanted!r}; it has {', '.join(header)}.")
    return header.index(wanted)


def _of_table(path: Path, target: str | None, usual: str) -> Media:
    found = listed(path, target, usual)
    suffix = found[0].path.suffix.lower() if found else ""
    medium: Medium = "audio" if suffix in ENDINGS["audio"] else "image"
    files = tuple(each.path.read_bytes() for each in found)
    return Media(medium, files, tuple(each.label for each in found), tuple(each.name for each in found))


def _idx_pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """IDX files of pictures in a folder with their labels, by name."""
    pairs = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and any(word in path.name for word in _IMAGES):
            labels = _beside(path)
            if labels is not None:
                pairs[path.name] = (path, labels)
    return pairs


def _beside(path: Path) -> Path | None:
    for pictures, labels in zip(_IMAGES, _LABELS, strict=True):
        other = path.with_name(path.name.replace(pictures, labels))
        if other != path and other.is_file():
            return other
    return None


def _labels_beside(path: Path) -> Path:
    found = _beside(path)
    if found is None:
        raise FileMissing(
            f"The labels of {path.name} are not beside it; they are expected as "
            f"{path.name.replace(_IMAGES[0], _LABELS[0])}."
        )
    return found


def _is_idx(path: Path) -> bool:
    return any(word in path.name for word in _IMAGES)


def _of_idx(pictures: Path, labels: Path) -> Media:
    pixels, truth = _idx_array(pictures), _idx_array(labels)
    if pixels.ndim != 3 or truth.ndim != 1 or len(pixels) != len(truth):
        raise DataError(
            f"{pictures.name} has the shape {list(pixels.shape)} and {labels.name} {list(truth.shape)}; "
            "they do not belong together."
        )
    return _of_pixels(pixels, [str(label) for label in truth.tolist()], pictures.name)


def _idx_array(path: Path) -> NDArray[np.uint8]:
    """An IDX file of bytes, packed or not.

    Raises:
        DataError: it is none, or its length is not what it says.
    """
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path.name} is damaged or was cut off: {error}.") from error
    if data[:3] != _IDX_BYTES or len(data) < 4 or len(data) < 4 + 4 * data[3]:
        raise DataError(f"{path.name} is no IDX file of bytes.")
    axes = data[3]
    shape = struct.unpack(f">{axes}i", data[4 : 4 + 4 * axes])
    held = np.frombuffer(data, np.uint8, offset=4 + 4 * axes)
    if min(shape, default=0) < 0 or held.size != np.prod(shape, dtype=np.int64):
        raise DataError(f"{path.name} says that it holds {list(shape)} values and holds {held.size}.")
    return held.reshape(shape)


def _of_npz(path: Path) -> Media:
    try:
        with path.open("rb") as stream, zipfile.ZipFile(stream) as packed:
            members = {name: packed.read(name) for name in packed.namelist()}
        arrays = {
            name.removesuffix(".npy").lower(): np.load(io.BytesIO(held), allow_pickle=False)
            for name, held in members.items()
        }
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path.name} is no npz of plain arrays: {error}.") from error
    pixels = next((arrays[name] for name in _ARRAYS if name in arrays), None)
    truth = next((arrays[name] for name in _TRUTHS if name in arrays), None)
    if pixels is None or truth is None:
        raise DataError(
            f"{path.name} holds {', '.join(arrays) or 'nothing'}; pictures are expected as "
            f"{' or '.join(_ARRAYS)}, their labels as {' or '.join(_TRUTHS)}."
        )
    fits = pixels.dtype == np.uint8 and pixels.ndim in (3, 4) and truth.reshape(-1).size == len(pixels)
    if not fits or (pixels.ndim == 4 and pixels.shape[-1] not in (1, 3)):
        raise DataError(
            f"The pictures of {path.name} are {pixels.dtype} {list(pixels.shape)} with {truth.size} labels; "
            "uint8 [n, height, width] or [n, height, width, 1 or 3] and n labels are read."
        )
    return _of_pixels(pixels, [str(label) for label in truth.reshape(-1).tolist()], path.name)


def _of_pixels(pixels: NDArray[np.uint8], labels: Sequence[str], name: str) -> Media:
    files = tuple(_png(picture) for picture in pixels)
    return Media("image", files, tuple(labels), tuple(f"{name}[{place}]" for place in range(len(files))))


def _png(picture: NDArray[np.uint8]) -> bytes:
    from servable.inputs.needed import library

    pillow: Any = library("PIL.Image", "image")
    squeezed = picture[:, :, 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
    written = io.BytesIO()
    pillow.fromarray(np.ascontiguousarray(squeezed)).save(written, "PNG", compress_level=1)
    return written.getvalue()
