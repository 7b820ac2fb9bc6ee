"""Where signatures lie: beside the packages, in the home and if wanted in the blob store of several machines.

::

    signatures/<digest of the package>/<model>.<version>.json   that the package is this version
    signatures/rollbacks/<model>.json                            that an older version may be served again
    signatures/served/<model>.json                               the newest version that this home served

A package keeps its digest when it is signed, or signed again. What was served is written by servers alone and
never leaves the home.
"""

import fcntl
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec

from servable.artifact.blob_files import blob_files
from servable.artifact.bundles import LARGEST_BUNDLE
from servable.artifact.files import storage_errors, sync_folder, write_file
from servable.artifact.releases import Release

_FOLDER = "signatures"
_ROLLBACKS = "rollbacks"
_SERVED = "served"


class Served(msgspec.Struct, frozen=True):
    """What a home served of a model with a signature that counts.

    Attributes:
        newest: the highest version.
        serving: the version that is served now, as far as is known.
        since: when the newest one was last taken up, in seconds since 1970.
    """

    newest: int
    serving: int
    since: float


class SignatureStore:
    """The signatures of one home. Safe to share between threads and processes.

    Args:
        root: the home's folder.
        blob_url: where they are kept as well, so that other machines find them; empty for nowhere.
    """

    def __init__(self, root: Path, blob_url: str = "") -> None:
        self._root = root / _FOLDER
        self._blob_url = blob_url

    def keep_release(self, digest: str, release: Release, bundle: bytes) -> None:
        """Keep the signature of a package as a version, in place of an earlier one.

        Raises:
            StorageFull: no space left.
            StorageFailed: the storage failed.
        """
        self._keep(f"{digest}/{release.model}.{release.version}.json", bundle)

    def release(self, digest: str, release: Release) -> bytes | None:
        """The signature of a package as a version; None when there is none.

        Raises:
            StorageFailed: the storage failed.
        """
        return self._found(f"{digest}/{release.model}.{release.version}.json")

    def keep_rollback(self, model: str, bundle: bytes) -> None:
        """Keep the latest signed rollback of a model.

        Raises:
            StorageFull: no space left.
            StorageFailed: the storage failed.
        """
        self._keep(f"{_ROLLBACKS}/{model}.json", bundle)

    def rollback(self, model: str) -> bytes | None:
        """The latest signed rollback of a model; None when there is none.

        Raises:
            StorageFailed: the storage failed.
        """
        return self._found(f"{_ROLLBACKS}/{model}.json")

    def served(self, model: str) -> Served | None:
        """What this home served of a model; None for nothing.

        Raises:
            StorageFailed: what is written there cannot be read; nothing is served rather than something old.
        """
        path = self._root / _SERVED / f"{model}.json"
        with storage_errors(f"reading what was served of {model}"):
            if not path.exists():
                return None
            try:
                return msgspec.json.decode(path.read_bytes(), type=Served)
            except msgspec.MsgspecError as error:
                raise OSError(None, f"{path} is damaged") from error

    def note_served(self, model: str, change: Callable[[Served | None], Served | None]) -> None:
        """Change what is known to have been served of a model, one process at a time.

        Args:
            model: its name.
            change: from what is known to what is known then; an equal record is not written.

        Raises:
            StorageFull: no space left.
            StorageFailed: the storage failed.
        """
        folder = self._root / _SERVED
        with storage_errors(f"keeping what was served of {model}"):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                before = self.served(model)
                after = change(before)
                if after is not None and after != before:
                    _replace(folder / f"{model}.json", msgspec.json.encode(after))
            finally:
                os.close(descriptor)

    def _keep(self, name: str, data: bytes) -> None:
        path = self._root / name
        with storage_errors(f"keeping the signature {name}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, data)
        if self._blob_url:
            with blob_files(self._blob_url, "keeping a signature") as (files, root):
                target = f"{root}/{_FOLDER}/{name}"
                files.makedirs(target.rpartition("/")[0], exist_ok=True)
                files.pipe_file(target, data)

    def _found(self, name: str) -> bytes | None:
        if self._blob_url:
            # What another machine signed meanwhile counts.
            with blob_files(self._blob_url, "reading a signature") as (files, root):
                files.invalidate_cache()
                if files.exists(f"{root}/{_FOLDER}/{name}"):
                    shared: bytes = files.cat_file(f"{root}/{_FOLDER}/{name}", end=LARGEST_BUNDLE + 1)
                    return shared
        path = self._root / name
        with storage_errors(f"reading the signature {name}"):
            if not path.is_file():
                return None
            with path.open("rb") as file:
                return file.read(LARGEST_BUNDLE + 1)


def _replace(path: Path, data: bytes) -> None:
    """Put a file in its place in one step, durably."""
    draft = path.with_name(f".{uuid.uuid4().hex}")
    try:
        write_file(draft, data)
        draft.replace(path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)
