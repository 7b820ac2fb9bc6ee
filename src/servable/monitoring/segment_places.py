"""Where segments lie: a folder, or a blob store that many machines share. Both keep the same promises.

What is put appears whole under its name or not at all, and is durable when ``put`` returns. Whoever lists
never sees a draft. Removing is best effort, since another machine may do the same at that moment.
"""

import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, NamedTuple, Protocol

from servable.artifact.blob_files import blob_files
from servable.artifact.files import storage_errors, sync_folder
from servable.errors import StorageFailed
from servable.monitoring.compaction import SEGMENT, aside_name

#: Stores in which an object appears under its name when all of it is there.
_APPEARING_WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "oss", "memory"})
#: Objects that are asked for at once.
_AT_ONCE = 32


class Found(NamedTuple):
    """A file that was asked for.

    Attributes:
        path: as it was listed.
        source: ``pyarrow.NativeFile``, open, which whoever gets it must close; None when it was removed
            meanwhile.
    """

    path: PurePath
    source: Any


class SegmentPlace(Protocol):
    """Keeps files in folders of folders. Safe to share between threads and processes.

    Every method raises ``StorageFailed`` when the storage fails, and ``put`` ``StorageFull`` when it is full.
    """

    def folders(self) -> list[str]:
        """The names of the folders below the root, in no order."""
        ...

    def files(self, folder: str, wanted: Callable[[str], bool]) -> list[PurePath]:
        """The files in the folders of a folder, in no order; drafts are not among them.

        Args:
            folder: relative to the root.
            wanted: by the name of a folder in it.
        """
        ...

    def put(self, path: str, data: Any) -> PurePath:
        """Keep a file, in place of one of the same name.

        Args:
            path: relative to the root, a file in a folder.
            data: bytes, or whatever else is a buffer.
        """
        ...

    def read(self, paths: Iterable[PurePath]) -> Iterator[Found]:
        """Files as ``files`` named them, in the same order, also those that were moved aside meanwhile."""
        ...

    def move(self, path: PurePath, name: str) -> None:
        """Give a file another name in its folder, in place of what has it; nothing where it is gone."""
        ...

    def discard(self, paths: Iterable[PurePath]) -> None:
        """Remove files; those that are gone already count as removed."""
        ...

    def remove(self, folder: str, gone: Callable[[str], bool]) -> list[str]:
        """Remove folders of a folder with all that is in them; the names of the files that were removed.

        Args:
            folder: relative to the root.
            gone: by the name of a folder in it.
        """
        ...


def place_of(folder: Path, url: str) -> SegmentPlace:
    """The place of an address; the folder where there is none. Nothing is asked of the store yet."""
    if not url:
        return FolderPlace(folder)
    scheme, mark, rest = url.partition("://")
    if mark and scheme in ("file", "local"):
        return FolderPlace(Path(rest) / folder.name)
    return BlobPlace(f"{url.rstrip('/')}/{folder.name}")


class FolderPlace:
    """A folder of this machine, or one that several machines have mounted.

    Args:
        root: it need not exist before something is put.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def folders(self) -> list[str]:
        """See ``SegmentPlace``."""
        return _names(self._root)

    def files(self, folder: str, wanted: Callable[[str], bool]) -> list[PurePath]:
        """See ``SegmentPlace``."""
        place = self._root / folder
        chosen = [place / name for name in _names(place) if wanted(name)]
        return [each / name for each in chosen for name in _names(each) if not name.startswith(".")]

    def put(self, path: str, data: Any) -> PurePath:
        """See ``SegmentPlace``."""
        target = self._root / path
        draft = target.with_name(f".{target.stem}-{uuid.uuid4().hex}.tmp")
        with storage_errors(f"writing {path}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with draft.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                draft.rename(target)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
            sync_folder(target.parent)
        return target

    def read(self, paths: Iterable[PurePath]) -> Iterator[Found]:
        """See ``SegmentPlace``."""
        import pyarrow

        for path in paths:
            source = None
            for place in (path, path.with_name(aside_name(path.name))):
                try:
                    source = pyarrow.OSFile(str(place))
                    break
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise StorageFailed(f"The segment {path} cannot be read ({error}).") from error
            yield Found(path, source)

    def move(self, path: PurePath, name: str) -> None:
        """See ``SegmentPlace``."""
        with storage_errors(f"moving {path.name}"), suppress(FileNotFoundError):
            Path(path).rename(path.with_name(name))

    def discard(self, paths: Iterable[PurePath]) -> None:
        """See ``SegmentPlace``."""
        for path in paths:
            with storage_errors(f"removing {path.name}"):
                Path(path).unlink(missing_ok=True)

    def remove(self, folder: str, gone: Callable[[str], bool]) -> list[str]:
        """See ``SegmentPlace``."""
        place = self._root / folder
        return [file for name in _names(place) if gone(name) for file in _emptied(place / name)]


class BlobPlace:
    """A blob store that fsspec knows.

    Args:
        url: its address.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def folders(self) -> list[str]:
        """See ``SegmentPlace``."""
        with blob_files(self._url, "listing captured traffic") as (files, root):
            # Others write there, of which a list from before does not know.
            files.invalidate_cache()
            try:
                entries = files.ls(root, detail=True)
            except FileNotFoundError:
                return []
            return [PurePosixPath(each["name"]).name for each in entries if each["type"] == "directory"]

    def files(self, folder: str, wanted: Callable[[str], bool]) -> list[PurePath]:
        """See ``SegmentPlace``."""
        found = [path for path in self._all(folder) if wanted(path.parent.name)]
        return [path for path in found if not path.name.startswith(".")]

    def put(self, path: str, data: Any) -> PurePath:
        """See ``SegmentPlace``."""
        with blob_files(self._url, f"writing {path}") as (files, root):
            target = PurePosixPath(root) / path
            if _appears_whole(files):
                files.pipe_file(str(target), bytes(data))
                return target
            files.makedirs(str(target.parent), exist_ok=True)
            draft = target.with_name(f".{target.stem}-{uuid.uuid4().hex}.tmp")
            files.pipe_file(str(draft), bytes(data))
            files.mv(str(draft), str(target))
            return target

    def read(self, paths: Iterable[PurePath]) -> Iterator[Found]:
        """See ``SegmentPlace``."""
        left = iter(paths)
        while some := list(islice(left, _AT_ONCE)):
            found = self._some(some)
            gone = [each.path for each in found if each.source is None and each.path.suffix == SEGMENT]
            again = self._some([path.with_name(aside_name(path.name)) for path in gone]) if gone else []
            sources = {path: each.source for path, each in zip(gone, again, strict=True)}
            yield from (Found(each.path, sources.get(each.path, each.source)) for each in found)

    def move(self, path: PurePath, name: str) -> None:
        """See ``SegmentPlace``."""
        with blob_files(self._url, f"moving {path.name}") as (files, _root), suppress(FileNotFoundError):
            files.mv(str(path), str(path.with_name(name)))

    def discard(self, paths: Iterable[PurePath]) -> None:
        """See ``SegmentPlace``."""
        with blob_files(self._url, "removing segments that are in others") as (files, _root):
            for path in paths:
                with suppress(FileNotFoundError):
                    files.rm_file(str(path))

    def remove(self, folder: str, gone: Callable[[str], bool]) -> list[str]:
        """See ``SegmentPlace``."""
        doomed = [path for path in self._all(folder) if gone(path.parent.name)]
        removed = []
        with blob_files(self._url, "removing old traffic") as (files, _root):
            for path in doomed:
                try:
                    files.rm_file(str(path))
                except FileNotFoundError:
                    continue
                removed.append(path.name)
        return removed

    def _all(self, folder: str) -> list[PurePosixPath]:
        """Every file in the folders of a folder, drafts among them."""
        with blob_files(self._url, "listing captured traffic") as (files, root):
            files.invalidate_cache()
            place = PurePosixPath(root) / folder
            return [path for path in _everything(files, place) if path.parent.parent == place]

    def _some(self, paths: Sequence[PurePath]) -> list[Found]:
        import pyarrow

        with blob_files(self._url, "reading captured traffic") as (files, _root):
            found = files.cat([str(path) for path in paths], recursive=False, on_error="return")
            contents = [found[str(path)] for path in paths]
            for content in contents:
                if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                    raise content
        return [
            Found(path, pyarrow.BufferReader(content) if isinstance(content, bytes) else None)
            for path, content in zip(paths, contents, strict=True)
        ]


def _appears_whole(files: Any) -> bool:
    """Whether a file system shows a file only when all of it is there."""
    names = (files.protocol,) if isinstance(files.protocol, str) else files.protocol
    return not _APPEARING_WHOLE.isdisjoint(names)


def _everything(files: Any, place: PurePosixPath) -> list[PurePosixPath]:
    """The files in the folders of a folder, and perhaps others below it."""
    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

    kind = type(files)
    if isinstance(files, AsyncFileSystem):
        walks = kind._find is AsyncFileSystem._find
    else:
        walks = kind.find is AbstractFileSystem.find
    try:
        if not walks:
            return [PurePosixPath(name) for name in files.find(str(place))]
        # A walk takes a folder that cannot be listed for an empty one.
        days = [each["name"] for each in files.ls(str(place), detail=True) if each["type"] == "directory"]
    except FileNotFoundError:
        return []
    found = []
    for day in days:
        with suppress(FileNotFoundError):
            found += [PurePosixPath(name) for name in files.ls(day, detail=False)]
    return found


def _emptied(folder: Path) -> list[str]:
    """Remove a folder of files."""
    removed = []
    for name in _names(folder):
        try:
            (folder / name).unlink()
        except OSError:
            continue
        removed.append(name)
    try:
        folder.rmdir()
    except OSError:
        return removed
    return removed


def _names(folder: Path) -> list[str]:
    """The names in a folder; none where there is no such folder."""
    try:
        return os.listdir(folder)  # noqa: PTH208 - names are all that is needed
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StorageFailed(f"The folder {folder} cannot be read ({error.strerror}).") from error
