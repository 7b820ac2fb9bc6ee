"""What no schema says of bodies: arrays in bytes have whole rows. Loaded by schemathesis.

The rows of the models under test are 24 and 32 bytes, so whole steps of 96 bytes fit each of them, and bytes
of finite float32 are finite float64 as well.
"""

import numpy as np
import schemathesis
from hypothesis import strategies as st

_STEP = 24  # Floats of four bytes.

arrays = st.integers(1, 4).flatmap(
    lambda steps: st.lists(
        st.floats(-1000, 1000, width=32), min_size=_STEP * steps, max_size=_STEP * steps
    ).map(lambda values: np.array(values, "<f4").tobytes())
)
schemathesis.openapi.media_type("application/octet-stream", arrays)
