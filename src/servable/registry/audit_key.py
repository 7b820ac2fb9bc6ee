"""The key with which a home signs checkpoints of its audit log, in a file that only its owner reads."""

import os
import stat
from pathlib import Path

from servable.artifact.files import storage_error, sync_folder
from servable.errors import InputError, StorageFailed
from servable.security.checkpoints import SigningKey, key_bytes, new_signing_key, read_signing_key

#: Its name in the home.
FILE = "audit.key"


class AuditKey:
    """A home's key. Safe to share between threads and processes.

    Args:
        home: the folder.

    Attributes:
        file: of the private half.
    """

    def __init__(self, home: Path) -> None:
        self.file = home / FILE

    @property
    def exists(self) -> bool:
        """Whether it was made."""
        return self.file.exists()

    def private(self) -> SigningKey:
        """The key; made when there is none.

        Raises:
            StorageFailed: it cannot be read or written, is none, or others may read it.
            StorageFull: no space left.
            DependencyMissing: cryptography is not installed.
        """
        try:
            return self._read()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise storage_error(error, "reading the key of the audit log") from error
        made = new_signing_key()
        try:
            self._write(key_bytes(made))
            return self._read()
        except OSError as error:
            raise storage_error(error, "writing the key of the audit log") from error

    def _read(self) -> SigningKey:
        descriptor = os.open(self.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
                raise StorageFailed(
                    f"Others may read {self.file}, which signs the audit log; run: chmod 600 {self.file}"
                )
            data = file.read(65_536)
        try:
            return read_signing_key(data)
        except InputError as error:
            raise StorageFailed(f"{self.file} cannot sign the audit log: {error}") from error

    def _write(self, data: bytes) -> None:
        """Put it in its place whole, unless another process was quicker."""
        part = self.file.with_name(f".{FILE}.{os.getpid()}.{os.urandom(4).hex()}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            try:
                os.link(part, self.file)
            except FileExistsError:
                return
        finally:
            part.unlink(missing_ok=True)
        sync_folder(self.file.parent)
