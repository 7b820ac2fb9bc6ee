"""How a deployment wants to be served: what an operator may decide besides the version. Pure.

Kept as JSON in the deployment's row, only what differs from the defaults. Keys that this code does not
know are kept out of the way when a policy is read, because a newer program may have written them; they
are refused when one is set.
"""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import msgspec

from servable.errors import SettingInvalid
from servable.settings import as_bytes

Placement = Literal["auto", "inline", "thread", "process"]
#: ``auto cpu cuda cuda:1``.
Device = Annotated[str, msgspec.Meta(pattern=r"^(auto|cpu|cuda(:\d{1,3})?)$")]


#: What may change while a model stays loaded.
_HEEDLESS = ("pinned", "capture", "capture_subject", "sticky")


class Policy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One deployment's wishes; the defaults let measurement decide.

    Attributes:
        executor: where the model runs; ``auto`` means by measurement at load.
        device: what computes it: ``cpu``, ``cuda``, ``cuda:1``, or ``auto`` for the fastest that is there.
        processes: child processes when it runs in processes: of each HTTP process, or of all that share.
        share: whether all HTTP processes use the same model processes; None: when it runs on a GPU.
        spares: children more that are kept ready to stand in at once for one that died.
        threads: batches at once when it runs in threads; 0 means by measurement.
        run_limit_s: seconds after which a run in a child counts as hung; None means the server's.
        max_batch: most rows in one batch; 0 means by measurement, 1 means no batching.
        cache_bytes: bytes of answers to keep; 0 means none.
        cache_age_s: seconds for which a kept answer is given.
        pinned: never unloaded to make room for others.
        capture: share of the requests that are recorded with their answers; 0 means none.
        capture_subject: the input that says whom a request is about, or the header as ``header:NAME``; what
            is captured of it is sealed under a key of that subject. Empty: nobody says.
        network: whether its processes may have connections to others; None: as its author declares.
        programs: whether they may start programs and processes; None: likewise.
        sticky: name of the header whose value decides, while several versions answer, which one does, so
            that one customer always meets the same; empty means by chance.
    """

    executor: Placement = "auto"
    device: Device = "auto"
    processes: int = 1
    share: bool | None = None
    spares: int = 0
    threads: int = 0
    run_limit_s: float | None = None
    max_batch: int = 0
    cache_bytes: int = 0
    cache_age_s: float = 60.0
    pinned: bool = False
    capture: float = 0.0
    capture_subject: Annotated[str, msgspec.Meta(max_length=256)] = ""
    network: bool | None = None
    programs: bool | None = None
    sticky: Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9-]{1,64})?$")] = ""

    def loads_like(self, other: "Policy") -> bool:
        """Whether a model loaded for one serves the other too: nothing differs that loading heeds."""
        if self is other or self == other:
            return True
        heedless = {name: getattr(other, name) for name in _HEEDLESS}
        return msgspec.structs.replace(self, **heedless) == other


#: What each wish must lie between, and what it counts.
_LIMITS: dict[str, tuple[float, float, str]] = {
    "processes": (1, 64, "processes"),
    "spares": (0, 16, "processes"),
    "threads": (0, 256, "threads"),
    "run_limit_s": (0.01, 86_400, "seconds"),
    "max_batch": (0, 1_000_000, "rows"),
    "cache_bytes": (0, 2**50, "bytes"),
    "cache_age_s": (0.001, 10 * 365 * 86_400, "seconds"),
    "capture": (0, 1, "of the requests"),
}


def changed(policy: Policy, **wishes: Any) -> Policy:
    """A policy with some wishes changed.

    Args:
        policy: as it was.
        wishes: by the names of ``Policy``; None leaves one as it was. Sizes may be texts such as ``64MiB``.

    Raises:
        SettingInvalid: no such wish, or a value that cannot be used; one sentence says which.
    """
    known = Policy.__struct_fields__
    for name in wishes:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            advice = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}."
            raise SettingInvalid(f"A deployment has no setting {name!r}; {advice}")
    given = {name: _checked(name, value) for name, value in wishes.items() if value is not None}
    after = msgspec.structs.replace(policy, **given)
    if after.share and after.executor in ("inline", "thread"):
        raise SettingInvalid(
            f"A model that runs {_THERE[after.executor]} cannot be shared by several HTTP processes; "
            "say executor process, or do not share it."
        )
    return after


def stored_policy(policy: Policy, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A policy as the deployment's row keeps it: what differs from the defaults.

    Args:
        policy: the wishes.
        before: what the row holds; keys of a newer program stay as they are.
    """
    foreign = {name: value for name, value in (before or {}).items() if name not in Policy.__struct_fields__}
    usual = Policy()
    said = {name: getattr(policy, name) for name in Policy.__struct_fields__}
    return {**foreign, **{name: value for name, value in said.items() if value != getattr(usual, name)}}


def _checked(name: str, value: Any) -> Any:
    """A wish in its type and between its limits.

    Raises:
        SettingInvalid: it is not.
    """
    if name == "cache_bytes" and isinstance(value, str):
        size = as_bytes(value)
        if size is None:
            raise SettingInvalid(f"The size of the cache must be one such as 64MiB, not {value[:60]!r}.")
        value = size
    try:
        field = msgspec.convert({name: value}, Policy)
    except msgspec.ValidationError as error:
        reason = str(error).partition(" - at ")[0]
        if name == "executor":
            reason = f"it is one of {', '.join(get_args(Placement))}"
        elif name == "device":
            reason = "it is auto, cpu, cuda, or one of several GPUs such as cuda:1"
        raise SettingInvalid(
            f"{_WORDS[name]} of a deployment cannot be {str(value)[:60]!r}: {reason}."
        ) from error
    typed = getattr(field, name)
    if name in _LIMITS:
        least, most, unit = _LIMITS[name]
        if not least <= typed <= most:
            raise SettingInvalid(
                f"{_WORDS[name]} of a deployment must be {least:,} to {most:,} {unit}, not {typed:,}."
            )
    return typed


_THERE = {"inline": "in the event loop", "thread": "in threads"}
_WORDS = {
    "executor": "The executor",
    "device": "The device",
    "processes": "The number of processes",
    "share": "Sharing",
    "spares": "The number of spare processes",
    "threads": "The number of threads",
    "run_limit_s": "The longest run",
    "max_batch": "The largest batch",
    "cache_bytes": "The size of the cache",
    "cache_age_s": "The age of kept answers",
    "pinned": "Pinning",
    "capture": "The share that is captured",
    "capture_subject": "What says whom a request is about",
    "network": "The network",
    "programs": "Starting programs",
    "sticky": "The header that keeps callers with one version",
}


def read_policy(stored: Mapping[str, Any]) -> Policy:
    """The policy of a deployment's row; keys of a newer program are passed over.

    Raises:
        SettingInvalid: a value that this code cannot use.
    """
    known = {name: stored[name] for name in Policy.__struct_fields__ if name in stored}
    try:
        return msgspec.convert(known, Policy)
    except msgspec.ValidationError as error:
        raise SettingInvalid(
            f"The deployment's policy cannot be used ({error}); deploy it again with --reset-policy."
        ) from error
