"""What a scoring run leaves behind so that another can go on: a growing file, and a journal of its pieces.

``OUT.parts/`` holds both. The journal's first line says what is scored with what, each further line
where a piece ended in the input and in the growing file; a line is written only after the bytes that it
speaks of are on the disk. Whatever a kill leaves behind the last whole line is cut off.
"""

import fcntl
import os
import shutil
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import Any

import msgspec

from servable.artifact.files import storage_errors, sync_folder
from servable.errors import ConflictError

JOURNAL = "journal.jsonl"
GROWN = "rows"
FINISHED = "finished"


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What is scored, with what, and how; a run goes on only where all of it is the same.

    Attributes:
        input: the file's name, size, time of its last change, and a digest of its beginning.
        package: digest of the model's package and the variant that answers.
        output: the form of the output, and which columns it has.
        step: rows of a piece; found out by the first run and taken over by the others.
    """

    input: dict[str, Any]
    package: dict[str, Any]
    output: dict[str, Any]
    step: int = 0


class Mark(msgspec.Struct, frozen=True):
    """The end of a finished piece: in the input, in the growing file, and in rows since the beginning."""

    end: int
    length: int
    rows: int


class Journal:
    """The parts of one output. Belongs to one thread at a time; a second run is kept out.

    Args:
        output: the file that will be made.
        work: what is to be done; its ``step`` does not matter here.
        restart: whether to throw away what an earlier run left.

    Attributes:
        folder: where the parts lie.
        mark: the end of what is finished; None when nothing is.
        step: rows of a piece, as the run before had them; 0 when there was none.

    Raises:
        ConflictError: another run has it, or what is there was made of something else.
        StorageFull: no space.
        StorageFailed: the folder cannot be written.
    """

    def __init__(self, output: Path, work: Work, *, restart: bool) -> None:
        self.folder = output.with_name(output.name + ".parts")
        self.output = output
        self.mark: Mark | None = None
        self.step = 0
        with storage_errors(f"making {self.folder}"):
            self.folder.mkdir(exist_ok=True)
            # Without buffers, so that nothing is tried again on the way out once the disk is full.
            self._lines = (self.folder / JOURNAL).open("a+b", buffering=0)
            self._grown = self.grown.open("a+b", buffering=0)
        try:
            with storage_errors(f"reading {self.folder}"):
                self._take_turn()
                if restart:
                    self._cut(0, 0)
                self._read(work)
        except BaseException:
            self.close()
            raise

    @property
    def grown(self) -> Path:
        """The growing file."""
        return self.folder / GROWN

    @property
    def finished(self) -> Path:
        """Where the output is made before it takes its place."""
        return self.folder / FINISHED

    def _take_turn(self) -> None:
        try:
            fcntl.flock(self._lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"Another run is writing {self.output}; wait for it or end it.") from None

    def _read(self, work: Work) -> None:
        self._lines.seek(0)
        lines = self._lines.readlines()
        length = self._grown.seek(0, os.SEEK_END)
        try:
            before = msgspec.json.decode(lines[0], type=Work) if lines else None
        except msgspec.MsgspecError:
            # Killed while the very first line was written.
            before = None
        if before is None:
            self._cut(0, 0)
            return
        self._compare(work, before)
        kept = len(lines[0])
        for line in lines[1:]:
            try:
                mark = msgspec.json.decode(line, type=Mark)
            except msgspec.MsgspecError:
                break
            if not line.endswith(b"\n") or mark.length > length:
                break
            self.mark, kept = mark, kept + len(line)
        if self.mark is None:
            # Nothing but the head; how large pieces are is found out anew.
            self._cut(0, 0)
            return
        self.step = before.step
        self._cut(kept, self.mark.length)

    def _compare(self, work: Work, before: Work) -> None:
        changed = {
            "The input": before.input == work.input,
            "The model": before.package == work.package,
            "What is to be written": before.output == work.output,
        }
        for what, same in changed.items():
            if not same:
                raise ConflictError(
                    f"{what} is not the same as when {self.folder} was begun; "
                    "run it again with --restart to begin anew."
                )

    def _cut(self, lines: int, grown: int) -> None:
        self._lines.truncate(lines)
        self._grown.truncate(grown)

    def begin(self, work: Work, head: bytes) -> None:
        """Write the first line and the head of the growing file; only where nothing is finished.

        Raises:
            StorageFull: no space.
            StorageFailed: the disk does not take it.
        """
        self._append(msgspec.json.encode(work) + b"\n", [head])
        with storage_errors(f"making {self.folder}"):
            sync_folder(self.folder)
        self.step = work.step

    def add(self, pieces: Iterable[bytes], end: int, rows: int) -> None:
        """Append the bytes of finished pieces and then say so.

        Args:
            pieces: their bytes.
            end: where the last one ended in the input.
            rows: how many rows are finished, all in all.

        Raises:
            StorageFull: no space.
            StorageFailed: the disk does not take it.
        """
        content = list(pieces)
        length = self._grown.seek(0, os.SEEK_END) + sum(map(len, content))
        mark = Mark(end, length, rows)
        self._append(msgspec.json.encode(mark) + b"\n", content)
        self.mark = mark

    def _append(self, line: bytes, content: list[bytes]) -> None:
        with storage_errors(f"writing {self.folder}"):
            for part in content:
                _write(self._grown, part)
            os.fdatasync(self._grown.fileno())
            _write(self._lines, line)
            os.fdatasync(self._lines.fileno())

    def close(self) -> None:
        """Give back the files; what is there stays for another run."""
        self._grown.close()
        self._lines.close()

    def discard(self) -> None:
        """Close, and throw away everything."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _write(file: FileIO, content: bytes) -> None:
    """All of it, in as many calls as the kernel wants."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
