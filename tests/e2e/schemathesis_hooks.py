"""What no schema says: arrays in bytes have whole rows, and time runs. Loaded by schemathesis.

The rows of the models under test are 24 and 32 bytes, so whole steps of 96 bytes fit each of them, and bytes
of finite float32 are finite float64 as well.
"""

from typing import Any

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


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Give the server a minute where a moment is asked for: to answer 504 after a millisecond is right."""
    name = "X-Request-Timeout-Ms"
    given = str((case.headers or {}).get(name, ""))
    if given.isascii() and given.isdigit() and 0 < int(given) < 60_000:
        case.headers[name] = "60000"
