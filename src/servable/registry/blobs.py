"""Where packages lie: a folder of the home, and if wanted a blob store that several machines share.

A package is published by filling a staging folder, making it durable, and renaming it to its digest:
one step, seen whole or not at all. The blob store is any file system that fsspec knows.
"""

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servable.artifact.blob_files import blob_files
from servable.artifact.files import FULL, storage_error, storage_errors, sync_folder
from servable.artifact.manifest import MANIFEST_FILE
from servable.artifact.package import digest_of, open_package
from servable.errors import ArtifactUnreadable

#: A staging folder older than this belongs to nobody any more, in seconds.
STALE_SECONDS = 24 * 3600.0


class PackageStore:
    """The packages of one home. Safe to share between threads and processes.

    Args:
        root: the home's folder, which exists.
        blob_url: an fsspec URL under which packages are kept as well, so that other machines find them;
            empty for none.
    """

    def __init__(self, root: Path, blob_url: str = "") -> None:
        self._packages = root / "packages"
        self._staging = root / "staging"
        self._blob_url = blob_url

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A new empty folder to fill; it is gone when the block ends, however it ends.

        ``publish`` moves it away. Folders that a killed process left a day ago are cleared here. Whoever
        fills the folder need not look after a full disk: an ``OSError`` of the block that says so is
        turned into ours; all others pass, since they may be about anything.

        Raises:
            StorageFull: no space left.
            StorageFailed: the home cannot be written.
        """
        folder = self._staging / uuid.uuid4().hex
        with storage_errors("making a staging folder"):
            folder.mkdir(parents=True)
        try:
            self.sweep()
            yield folder
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise storage_error(error, "writing the package") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, folder: Path) -> tuple[str, bool]:
        """Move a sealed staging folder to its place.

        Doing it again with an equal package changes nothing.

        Args:
            folder: sealed, on the same file system as the home (``staging`` gives one).

        Returns:
            The digest, and whether the package is new here.

        Raises:
            ArtifactUnreadable: the folder was not sealed.
            StorageFull: no space left.
            StorageFailed: the storage failed.
        """
        digest = digest_of(folder)
        target = self._packages / digest
        with storage_errors(f"publishing the package {digest[:12]}"):
            self._packages.mkdir(exist_ok=True)
            if target.is_dir():
                return digest, False
            folder.rename(target)
            sync_folder(self._packages)
            sync_folder(self._packages.parent)
        return digest, True

    def withdraw(self, digest: str) -> None:
        """Take back a package that no version names; best effort, for cleaning up after a failure."""
        grave = self._staging / uuid.uuid4().hex
        try:
            self._staging.mkdir(exist_ok=True)
            (self._packages / digest).rename(grave)
        except OSError:
            return
        shutil.rmtree(grave, ignore_errors=True)

    def folder(self, digest: str) -> Path:
        """Where the package lies on this machine; it is fetched from the blob store if it is only there.

        Raises:
            ArtifactUnreadable: the package is nowhere.
            StorageFailed: the blob store failed.
        """
        target = self._packages / digest
        if target.is_dir():
            return target
        if self._blob_url:
            self._fetch(digest)
            return target
        raise ArtifactUnreadable(
            f"The package {digest[:12]} is not in {self._packages}; "
            "publish the model again or restore the folder."
        )

    def share(self, folder: Path) -> None:
        """Copy a sealed folder to the blob store, the manifest last: a half copy is never taken for one.

        Raises:
            StorageFailed: the blob store failed.
        """
        if not self._blob_url:
            return
        digest = digest_of(folder)
        with blob_files(self._blob_url, f"keeping the package {digest[:12]}") as (files, root):
            head = f"{root}/{digest}/{MANIFEST_FILE}"
            # Others write there, of which a list from before does not know.
            files.invalidate_cache()
            if files.exists(head):
                return
            paths = sorted(path for path in folder.rglob("*") if path.is_file())
            paths.sort(key=lambda path: path == folder / MANIFEST_FILE)
            for path in paths:
                target = f"{root}/{digest}/{path.relative_to(folder).as_posix()}"
                files.makedirs(target.rpartition("/")[0], exist_ok=True)
                files.put_file(str(path), target)

    def digests(self) -> frozenset[str]:
        """The digests of all packages on this machine."""
        if not self._packages.is_dir():
            return frozenset()
        return frozenset(entry.name for entry in self._packages.iterdir() if entry.is_dir())

    def sweep(self, older_than: float = STALE_SECONDS) -> int:
        """Clear staging folders that nobody touched for this many seconds; how many there were."""
        swept = 0
        oldest = time.time() - older_than
        try:
            with os.scandir(self._staging) as entries:
                stale = [entry.path for entry in entries if entry.stat().st_mtime < oldest]
        except OSError:
            return 0
        for path in stale:
            shutil.rmtree(path, ignore_errors=True)
            swept += 1
        return swept

    def _fetch(self, digest: str) -> None:
        with self.staging() as folder:
            with blob_files(self._blob_url, f"fetching the package {digest[:12]}") as (files, root):
                source = f"{root}/{digest}"
                files.invalidate_cache()
                if not files.exists(f"{source}/{MANIFEST_FILE}"):
                    raise ArtifactUnreadable(
                        f"The package {digest[:12]} is neither here nor in the blob store."
                    )
                files.get(f"{source}/", f"{folder}/", recursive=True)
            open_package(folder, digest=digest)
            self.publish(folder)
