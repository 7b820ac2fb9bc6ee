"""How a deployment wants to be served: what an operator may decide besides the version.

Kept as JSON in the deployment's row. Keys that this code does not know are kept out of the way when
a policy is read, because a newer program may have written them; they are refused when one is set.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from servable.errors import SettingInvalid

Placement = Literal["auto", "inline", "thread", "process"]


class Policy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One deployment's wishes; the defaults let measurement decide.

    Attributes:
        executor: where the model runs; ``auto`` means by measurement at load.
        processes: child processes per HTTP process when it runs in processes.
        threads: batches at once when it runs in threads; 0 means by measurement.
        run_limit_s: seconds after which a run in a child counts as hung; None means the server's.
        max_batch: most rows in one batch; 0 means by measurement, 1 means no batching.
        cache_bytes: bytes of answers to keep; 0 means none.
        cache_age_s: seconds for which a kept answer is given.
        pinned: never unloaded to make room for others.
    """

    executor: Placement = "auto"
    processes: int = 1
    threads: int = 0
    run_limit_s: float | None = None
    max_batch: int = 0
    cache_bytes: int = 0
    cache_age_s: float = 60.0
    pinned: bool = False


def read_policy(stored: Mapping[str, Any]) -> Policy:
    """The policy of a deployment's row; keys of a newer program are passed over.

    Raises:
        SettingInvalid: a value that this code cannot use.
    """
    known = {name: stored[name] for name in Policy.__struct_fields__ if name in stored}
    try:
        return msgspec.convert(known, Policy)
    except msgspec.ValidationError as error:
        raise SettingInvalid(f"The deployment's policy cannot be used: {error}.") from error
