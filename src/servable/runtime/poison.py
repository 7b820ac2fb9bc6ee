"""The rows that killed a model, remembered for a while so that a repetition costs no further process."""

from collections import OrderedDict
from hashlib import blake2b

import numpy as np

from servable.errors import PoisonRequest
from servable.tensors import Arrays

#: Rows are remembered for so long: a process may also have died of something else.
_AGE_S = 600.0
#: The oldest is forgotten beyond so many.
_MOST = 256


class PoisonMemory:
    """A bounded set of digests of refused rows. Belongs to one task."""

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def add(self, arrays: Arrays, now: float) -> float:
        """Remember rows; when they are forgotten, in seconds of the clock of ``now``."""
        key = _digest(arrays)
        self._until.pop(key, None)
        until = self._until[key] = now + _AGE_S
        if len(self._until) > _MOST:
            self._until.popitem(last=False)
        return until

    def has(self, arrays: Arrays, now: float) -> bool:
        """Whether equal rows are remembered; costs a digest of the rows."""
        return self._until.get(_digest(arrays), 0.0) > now


def poison_error(model: str) -> PoisonRequest:
    """What the caller is told."""
    return PoisonRequest(
        f"These rows ended two processes of {model} and are not tried again; "
        "change them, or have the model mended."
    )


def _digest(arrays: Arrays) -> bytes:
    digest = blake2b(digest_size=16)
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}\0{array.dtype.str}{array.shape}\0".encode())
        if array.dtype.hasobject:
            digest.update(repr(array.tolist()).encode("utf-8", "surrogatepass"))
        else:
            digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
