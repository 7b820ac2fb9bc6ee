"""The bytes of a file - a picture, a sound - as they are, for models that take bytes of any number."""

from typing import Any

import numpy as np

from servable.artifact.signature import Signature
from servable.errors import FieldProblem, RequestInvalid
from servable.protocols.base import NO_HEAD, Head
from servable.protocols.native import NativeAnswer
from servable.tensors import Body, Request


def takes_bytes(signature: Signature) -> bool:
    """Whether the only input of a model is bytes, as many as there are: a uint8 tensor of one free axis."""
    if len(signature.inputs) != 1:
        return False
    field = signature.inputs[0]
    return field.is_tensor and field.dtype == "uint8" and field.shape == (-1,)


class BytesCodec(NativeAnswer):
    """``image/*`` and ``audio/*``: one file is one row. Immutable and safe to share.

    Args:
        signature: one for which ``takes_bytes`` is true.
    """

    def __init__(self, signature: Signature) -> None:
        super().__init__(signature)
        self._name = signature.inputs[0].name

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request; nothing is copied.

        Raises:
            RequestInvalid: there are none.
        """
        if not len(body):
            raise RequestInvalid([FieldProblem("input", "the bytes of one file", "an empty body")])
        array: Any = np.frombuffer(body, np.uint8).reshape(1, -1)
        return Request({self._name: array}, 1, request_id, True)
