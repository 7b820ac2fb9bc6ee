"""Blob stores for tests: one that can be gone."""

from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class LostStore(MemoryFileSystem):
    """A store in memory that answers only while it is there."""

    protocol = "lost"
    store: dict[str, Any] = {}  # noqa: RUF012 - fsspec keeps it on the class
    pseudo_dirs = [""]  # noqa: RUF012 - as above
    #: Whether it answers.
    there = True
    #: Whether what is in it can be read.
    readable = True

    def _answers(self) -> None:
        if not LostStore.there:
            raise ConnectionError("nobody answers")

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, str):
            path = path.replace("lost://", "memory://", 1)
        return super()._strip_protocol(path)

    def find(self, path: str, **more: Any) -> Any:
        self._answers()
        return super().find(path, **more)

    def ls(self, path: str, detail: bool = True, **more: Any) -> Any:
        self._answers()
        return super().ls(path, detail, **more)

    def cat_file(self, path: str, start: Any = None, end: Any = None, **more: Any) -> bytes:
        self._answers()
        if not LostStore.readable:
            raise ConnectionError("nobody answers")
        content: bytes = super().cat_file(path, start, end, **more)
        return content

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> None:
        self._answers()
        super().pipe_file(path, value, mode, **more)

    def exists(self, path: str, **more: Any) -> bool:
        self._answers()
        return bool(super().exists(path, **more))


def register() -> None:
    """Make ``lost://`` known to fsspec."""
    fsspec.register_implementation("lost", LostStore, clobber=True)
