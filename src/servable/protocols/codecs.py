"""Which codec reads which content type, for one signature."""

from servable.artifact.signature import Signature
from servable.protocols.base import Codec
from servable.protocols.native import MAX_ROWS, NativeCodec
from servable.protocols.native_array import WholeArray
from servable.protocols.native_binary import NpyCodec, RawCodec
from servable.protocols.native_depth import MAX_DEPTH

JSON = "application/json"
RAW = "application/octet-stream"
NPY = "application/x-npy"


def native_codecs(
    signature: Signature, *, max_rows: int = MAX_ROWS, max_depth: int = MAX_DEPTH
) -> dict[str, Codec]:
    """The codecs of the native addresses by content type; JSON is always among them.

    Args:
        signature: what the model takes and gives.
        max_rows: more rows in one request are refused.
        max_depth: JSON that is nested deeper is refused.
    """
    native = NativeCodec(signature, max_rows=max_rows, max_depth=max_depth)
    codecs: dict[str, Codec] = {JSON: native}
    whole = WholeArray.of(signature)
    if whole is not None:
        if whole.fixed:
            codecs[RAW] = RawCodec(native, whole, max_rows=max_rows)
        codecs[NPY] = NpyCodec(native, whole, max_rows=max_rows)
    return codecs
