"""Values in the words that a person reads best. Pure; nothing is imported for it."""

from collections.abc import Mapping
from typing import Any


def wishes(policy: Mapping[str, Any]) -> str:
    """A deployment's policy in words; ``by measurement`` where it says nothing.

    It is shown as it is kept, so values that no policy may have are shown too.
    """
    words = {
        "executor": "executor {}",
        "device": "device {}",
        "processes": "{} processes",
        "spares": "{} spare",
        "threads": "{} batches at once",
        "run_limit_s": "runs of at most {} s",
        "max_batch": "at most {} rows in a batch",
        "cache_bytes": "a cache of {}",
        "cache_age_s": "answers kept for {} s",
        "sticky": "callers kept with a version by {}",
    }
    said = []
    for name, value in policy.items():
        if name == "pinned":
            said += ["pinned"] if value else []
        elif name == "capture":
            part = "every request" if value == 1 else f"{percent(value)} of the requests"
            said.append(f"{part} captured")
        elif name == "share":
            said.append("shared by all workers" if value else "not shared by workers")
        elif name in words:
            plain = f"{value:g}" if isinstance(value, float) else str(value)
            counted = name == "cache_bytes" and isinstance(value, int)
            said.append(words[name].format(size(value) if counted else plain))
    return ", ".join(said) or "by measurement"


def shares(parts: Mapping[int, float]) -> str:
    """What part of the requests each version gets, such as ``v3 95 %  v4 5 %``."""
    return "  ".join(f"v{version} {percent(part)}" for version, part in sorted(parts.items()))


def percent(part: float) -> str:
    """A part of a whole, such as ``95 %`` or ``0.5 %``."""
    return f"{part * 100:.3g} %"


def size(count: int) -> str:
    """Bytes in the unit that a person reads best."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if count >= 1024**power:
            return f"{count / 1024**power:.3g} {unit}"
    return f"{count} bytes"
