"""Names of tensors that are also names of packed arrays."""

from servable.artifact.signature import Field, Signature
from servable.protocols.native import NativeCodec


def test_a_tensor_named_like_a_packed_array_is_decoded_as_the_tensor_that_it_is() -> None:
    signature = Signature(
        task="transform",
        inputs=(Field(name="numbers", kind="tensor", dtype="float64", shape=(4,)),),
        outputs=(Field(name="y", kind="tensor", dtype="float64"),),
    )
    codec = NativeCodec(signature)
    for body, rows in ((b'{"input":{"numbers":[1,2,3,4]}}', 1), (b'{"inputs":[[1,2,3,4],[5,6,7,8]]}', 2)):
        assert codec.decode(body, "id").arrays["numbers"].shape == (rows, 4)
