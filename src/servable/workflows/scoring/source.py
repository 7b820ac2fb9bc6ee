"""The rows of a file, piece by piece: what every format that can be scored has in common.

A source cuts its file into pieces in one thread, cheaply, and makes tables of them in many. A piece
knows where it begins and ends, so that a later run can go on behind any of them and cut the rest in the
same places.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from servable.errors import DataError, FileMissing, StorageFailed

if TYPE_CHECKING:
    import pyarrow as pa

    from servable.protocols.column_values import Texts

#: Fewest and most bytes of a piece of text.
LEAST_BYTES, MOST_BYTES = 1 << 12, 1 << 25
#: A single row longer than this is a quotation mark that was never closed.
LONGEST_ROW = 1 << 26
#: Bytes of a file that are looked at before anything else.
HEAD_BYTES = 1 << 20


class Piece(NamedTuple):
    """Neighbouring rows, not yet read.

    Attributes:
        start: where they begin: a byte of text, or a row.
        end: where the next piece begins.
        content: their bytes, or a table.
        passed: how much of the source's ``size`` has been read so far.
    """

    start: int
    end: int
    content: Any
    passed: float


class BadRow(Exception):
    """A row cannot be read; ``row`` counts from 0 within its piece, ``said`` goes on after ``row 17``."""

    def __init__(self, row: int, said: str) -> None:
        super().__init__(said)
        self.row = row
        self.said = said

    def sentence(self, path: Path, before: int = 0) -> str:
        """All of it, for a person; rows count from 1 there.

        Args:
            path: of the file.
            before: rows of the pieces before this one.
        """
        joint = ", " if self.said.startswith("column") else " "
        return f"{path}, row {before + self.row + 1}{joint}{self.said}"


class Source(Protocol):
    """An open file of rows. ``pieces`` belongs to one thread at a time, all else to any."""

    #: The file.
    path: Path
    #: Columns and their types, as tables have them.
    schema: "pa.Schema"
    #: Whether every row has these columns and no others.
    fixed: bool
    #: How texts are read as values; None where columns have types of their own.
    texts: "Texts | None"
    #: What ``Piece.passed`` grows to.
    size: float
    #: Bytes of a row of text, roughly; 0 where pieces are cut by rows.
    row_bytes: float

    def pieces(self, start: int | None, step: int) -> Generator[Piece, None, None]:
        """Cut the file.

        Args:
            start: where a piece ended before; None for the beginning.
            step: rows of a piece.

        Raises:
            BadRow: the next piece cannot be told from what follows.
            DataError: the file is damaged.
        """
        ...

    def table(self, piece: Piece) -> "pa.Table":
        """The rows of a piece.

        Raises:
            BadRow: one of them cannot be read.
        """
        ...


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the errors of reading a file into ours.

    Raises:
        FileMissing: it is not there.
        DataError: it is damaged, or no file.
        StorageFailed: permissions, or an input/output error.
    """
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError as error:
        raise FileMissing(f"There is no file {path}; check the path.") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder; give one file.") from error
    except PermissionError as error:
        raise StorageFailed(f"{path} cannot be read: {error.strerror}.") from error
    except (pa.ArrowException, EOFError, ValueError) as error:
        raise DataError(f"{path} is damaged or cut off ({_first_line(error)}).") from error
    except OSError as error:
        if error.errno is None:
            # Arrow's decompressors raise it without a number for bytes that they do not understand.
            raise DataError(f"{path} is damaged or cut off ({_first_line(error)}).") from error
        raise StorageFailed(f"{path} cannot be read: {error.strerror}.") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
