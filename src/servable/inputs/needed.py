"""What the kinds of input share: the libraries they need, and what is wrong with a file."""

import importlib
from typing import Any

from servable.errors import DependencyMissing


class FileUnfit(Exception):
    """A file is not what an input takes; becomes a problem of its field.

    Args:
        expected: what the input takes, in words.
        got: what came, in words; nothing of the file's content is repeated.
    """

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected = expected
        self.got = got


def library(module: str, extra: str) -> Any:
    """A module of a library that only some inputs need.

    Raises:
        DependencyMissing: it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except (ModuleNotFoundError, OSError) as missing:
        # OSError: the Python part is there and the native library it loads is not.
        raise DependencyMissing(
            f"Inputs of {extra} need {module.partition('.')[0]}, which is not installed; "
            f"run: pip install 'servable[{extra}]'"
        ) from missing
