"""The binary tensor data of the Open Inference Protocol: JSON first, then the bytes of tensors. Pure.

The header ``Inference-Header-Content-Length`` says how long the JSON is; each input with a
``binary_data_size`` takes so many of the bytes behind it, in the order of the inputs. With the header 0
there is no JSON, and the whole body is the bytes of the one input.
"""

import math
from typing import Any

import numpy as np

from servable.errors import RequestMalformed
from servable.protocols.base import Head
from servable.protocols.datatypes import BF16, BYTES, PLAIN, from_raw
from servable.protocols.face import Tensor
from servable.protocols.native_array import refuse
from servable.protocols.native_schema import shown
from servable.tensors import Body

#: The header that says how long the JSON is, in small letters.
LENGTH = b"inference-header-content-length"
#: The content type of a body that holds bytes of tensors.
MEDIA_TYPE = "application/octet-stream"
#: The parameter of an input or output that says how many bytes of it there are.
SIZE = "binary_data_size"


def json_length(head: Head, body: Body) -> int | None:
    """How long the JSON of a body is; None when all of it is.

    Raises:
        RequestMalformed: the header holds no number, or more than there is.
    """
    given = head.get(LENGTH)
    if given is None:
        return None
    if not given.isdigit() or len(given) > 12 or int(given) > len(body):
        raise RequestMalformed(
            "The header Inference-Header-Content-Length must be the number of bytes of the JSON at the "
            "beginning of the body."
        )
    return int(given)


class Blobs:
    """The bytes behind the JSON, which are taken one tensor after the other.

    Args:
        rest: all of them.
    """

    def __init__(self, rest: Body) -> None:
        self._rest = memoryview(rest)
        self._start = 0

    def take(self, size: Any, place: str) -> memoryview:
        """The next so many bytes.

        Raises:
            RequestInvalid: the size is none.
            RequestMalformed: fewer are left.
        """
        if type(size) is not int or size < 0:
            raise refuse(f"{place}.parameters.{SIZE}", "a whole number of 0 or more", shown(size))
        start = self._start
        if size > len(self._rest) - start:
            raise RequestMalformed(
                f"{place} claims {_bytes(size)} and {len(self._rest) - start} are left behind the JSON; "
                "set the header Inference-Header-Content-Length, and send the bytes of all inputs."
            )
        self._start = start + size
        return self._rest[start : self._start]

    def end(self) -> None:
        """Nothing more is taken.

        Raises:
            RequestMalformed: some bytes are left.
        """
        left = len(self._rest) - self._start
        if left:
            raise RequestMalformed(f"{left} bytes are left behind the last input that has a {SIZE}.")


def _bytes(size: int) -> str:
    return f"{size} bytes" if size < 10**15 else "very many bytes"


def raw_tensor(inputs: tuple[Tensor, ...], body: Body) -> Any:
    """The one input of a model, whose bytes are the whole body.

    With a shape that is known a body may hold several rows; with one size that is free it is one row. A text
    is the whole body.

    Args:
        inputs: of the model.
        body: the bytes.

    Raises:
        RequestMalformed: the model has several inputs, or several free sizes.
        RequestInvalid: the bytes are not a whole number of rows.
    """
    if len(inputs) != 1:
        raise RequestMalformed(
            f"A body without JSON is the bytes of one input, and this model takes {len(inputs)}; send JSON."
        )
    tensor = inputs[0]
    row = tensor.shape[1:]
    if tensor.datatype == BYTES:
        if any(size not in (1, -1) for size in row):
            raise RequestMalformed(
                f"A body without JSON is one text, and {tensor.name} takes several; send JSON."
            )
        text = np.empty(1, object)
        text[0] = bytes(body)
        return text.reshape([1] * len(tensor.shape))
    if sum(size < 0 for size in row) > 1:
        raise RequestMalformed(f"The shape of {tensor.name} does not follow from its bytes; send JSON.")
    itemsize = 2 if tensor.datatype == BF16 else PLAIN[tensor.datatype].itemsize
    unit = itemsize * math.prod(size for size in row if size > 0)
    count, rest = divmod(len(body), unit)
    if rest or not count:
        raise refuse(tensor.name, f"a multiple of {unit} bytes", f"{len(body)} bytes")
    shape = [1, *(count if size < 0 else size for size in row)] if -1 in row else [count, *row]
    return from_raw(tensor.datatype, shape, body, tensor.name)
