"""The bytes of a file - a picture, a sound - as they are, for models that take files."""

from typing import Any

import numpy as np

from servable.artifact.signature import Field, Signature
from servable.errors import FieldProblem, RequestInvalid
from servable.inputs.rows import raw_files
from servable.protocols.base import NO_HEAD, Codec, Head
from servable.protocols.file_types import file_type_of
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
        signature: one for which ``takes_bytes`` is true, or whose only input takes files.
    """

    def __init__(self, signature: Signature) -> None:
        super().__init__(signature)
        self._field: Field = signature.inputs[0]

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request.

        Raises:
            RequestInvalid: there are none.
        """
        if not len(body):
            raise RequestInvalid([FieldProblem("input", "the bytes of one file", "an empty body")])
        if self._field.takes_files:
            return Request({self._field.name: raw_files([bytes(body)])}, 1, request_id, True)
        array: Any = np.frombuffer(body, np.uint8).reshape(1, -1)
        return Request({self._field.name: array}, 1, request_id, True)


class AnyBytesCodec(BytesCodec):
    """``application/octet-stream`` of a model that takes files: a file, or else the bytes of tensors.

    Args:
        signature: one whose only input takes files.
        tensors: reads the bytes of tensors; None when their number is not fixed.
    """

    def __init__(self, signature: Signature, tensors: Codec | None) -> None:
        super().__init__(signature)
        self._tensors = tensors

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request; what begins like a file is one.

        Raises:
            RequestInvalid: there are none, or they are as many as no rows have.
            RequestTooLarge: more rows than allowed.
        """
        if self._tensors is None or file_type_of(body):
            return super().decode(body, request_id, head)
        return self._tensors.decode(body, request_id, head)
