"""Files of a blob store that machines share: any file system that fsspec knows, named by an address."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from servable.artifact.files import FULL, storage_error
from servable.errors import DependencyMissing, ServableError, StorageFailed
from servable.settings import masked_url


@contextmanager
def blob_files(url: str, doing: str) -> Iterator[tuple[Any, str]]:
    """The file system of an address and the folder in it. Whatever its library raises becomes ours.

    Args:
        url: such as ``s3://bucket/servable``.
        doing: what is going on, as it fits after "while".

    Raises:
        StorageFull: it has no room.
        DependencyMissing: the library for such addresses is not installed.
        StorageFailed: the store failed, or no library knows such addresses.
    """
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(url)
        yield files, root.rstrip("/")
    except ServableError:
        raise
    except OSError as error:
        if error.errno in FULL:
            raise storage_error(error, doing) from error
        raise _failed(url, doing, error) from error
    except ImportError as error:
        raise DependencyMissing(f"The blob store {masked_url(url)} needs a library: {error}.") from error
    except Exception as error:
        # Each store's library has errors of its own beside those of the system.
        raise _failed(url, doing, error) from error


def _failed(url: str, doing: str, error: Exception) -> StorageFailed:
    reason = str(error) or type(error).__name__
    return StorageFailed(f"The blob store {masked_url(url)} failed while {doing} ({reason}).")
