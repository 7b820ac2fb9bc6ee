"""Files of numpy: arrays are data, unless they hold objects, which are a pickle."""

from typing import IO

import numpy as np

from servable.errors import ArtifactUnreadable

MAGIC = b"\x93NUMPY"


def holds_objects(name: str, file: IO[bytes]) -> bool:
    """Whether an array holds objects; what follows its head is then a pickle.

    Args:
        name: of the file, for sentences.
        file: at its beginning; stands behind the head afterwards.

    Raises:
        ArtifactUnreadable: it is no array of numpy, or damaged.
    """
    try:
        major, _ = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        _, _, dtype = read(file)
    except (ValueError, EOFError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise ArtifactUnreadable(f"{name} is a truncated or damaged file of numpy; copy it again.") from error
    return bool(dtype.hasobject)
