"""A shadow: a version that is asked what another one was asked, and whose answers nobody sees.

The copy is made after the caller was answered, so a shadow cannot fail an answer; and it cannot hold one up,
because it runs in a process of its own that gets what nobody else wants of the processors, few copies are on
their way at once, and whatever is too much is dropped and counted. A shadow that hangs, crashes or errs is a
figure in the comparison and nothing else.
"""

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from servable.artifact.signature import Signature
from servable.errors import Overloaded, ServableError, ServerStopping
from servable.logs import fields, logger
from servable.monitoring.agreement import Sight
from servable.monitoring.metrics import OK, Metrics
from servable.monitoring.shadow_counts import Comparing
from servable.registry.policy import Policy
from servable.runtime.waiting import NEW, Waiting
from servable.serving.live import Key, Live
from servable.serving.taps import Streamed, Tap, Taps
from servable.tensors import Arrays

_log = logger("serving")
#: Copies on their way to one shadow at once.
MOST_COPIES = 64
#: Copies a second that a server process makes for one shadow. Each takes 0.15 to 0.4 ms of its event loop, in
#: which no real answer is given: so few that far less than one answer in a hundred has to wait for one.
PER_SECOND = 4.0
#: Seconds for which copies that were not made are saved up, to be made at once.
_SAVED_S = 1.0
#: Bytes of the arrays of one copy, and of all that are on their way.
MOST_BYTES = 4 * 1024 * 1024
MOST_BYTES_TOGETHER = 64 * 1024 * 1024
#: Seconds after which nobody waits for a shadow's answer; an answer in pieces that took longer is not copied.
LIMIT_S = 10.0
#: Of a copy beside a request that somebody waits for: a tester may ask a shadow by its number.
WEIGHT = 0.01
#: Errors that are the model's doing, so that the shadow is asked as well whether it does better.
_FAULTS = frozenset({"model_failed", "model_died", "poison_request", "internal_error"})
#: What a shadow says when it has too much to do; that is no fault of its answers.
_TOO_MUCH = (Overloaded, ServerStopping)
_now = time.monotonic


def shadow_policy(policy: Policy) -> Policy:
    """How a shadow of a deployment with this policy is loaded: in one process of its own. Pure."""
    return msgspec.structs.replace(
        policy, executor="process", processes=1, spares=0, share=False, cache_bytes=0, capture=0.0
    )


class Copying:
    """Makes of the rows that one signature takes copies for another. Immutable, safe to share.

    Args:
        real: of the version that was asked.
        shadow: of its shadow.

    Attributes:
        reason: why the shadow cannot be asked the same, one sentence; empty when it can.
    """

    def __init__(self, real: Signature, shadow: Signature) -> None:
        self.reason = _unlike(real, shadow)
        self._columns: dict[str, NDArray[np.intp] | None] = {}
        if self.reason:
            return
        for name in dict.fromkeys(field.array for field in shadow.inputs):
            wanted = [field.name for field in shadow.packed(name)]
            given = [field.name for field in real.packed(name)]
            same = wanted == given
            self._columns[name] = None if same else np.array([given.index(each) for each in wanted], np.intp)

    def copied(self, arrays: Arrays) -> dict[str, Any]:
        """What the shadow is asked; shares no memory with what was asked.

        Raises:
            KeyError: an array is not there.
        """
        return {
            name: np.array(arrays[name]) if columns is None else arrays[name][:, columns]
            for name, columns in self._columns.items()
        }


def _unlike(real: Signature, shadow: Signature) -> str:
    given = {field.name: field for field in real.inputs}
    for field in shadow.inputs:
        other = given.get(field.name)
        if other is None:
            return f"It takes {field.name}, which the version that answers does not take."
        if (other.array, other.is_tensor) != (field.array, field.is_tensor) or (
            field.is_tensor and (other.dtype, other.shape) != (field.dtype, field.shape)
        ):
            return f"It takes {field.name} in another form than the version that answers."
    return ""


class Copies:
    """What is on its way to one shadow. Belongs to one event loop.

    Args:
        live: the shadow.
        per_second: copies a second, evened out; as many, one at least, may come at once.
        now: a monotonic clock in seconds.

    Attributes:
        live: the shadow.
        count: copies that are not answered yet.
        bytes: of their arrays.
    """

    __slots__ = ("_at", "_most", "_now", "_per_second", "_saved", "bytes", "count", "live")

    def __init__(
        self, live: Live, per_second: float = PER_SECOND, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.live = live
        self.count = 0
        self.bytes = 0
        self._per_second = per_second
        self._now = now
        self._at = now()
        self._saved = self._most = max(per_second * _SAVED_S, 1.0)

    def due(self) -> bool:
        """Whether it is time for one more; cheap, because it is asked for every request."""
        now = self._now()
        self._saved = min(self._saved + (now - self._at) * self._per_second, self._most)
        self._at = now
        return self._saved >= 1.0

    def room(self, size: int) -> bool:
        """Whether one more of so many bytes may come; when it may, it counts as come."""
        if (
            self.count >= MOST_COPIES
            or size > MOST_BYTES
            or self.bytes + size > MOST_BYTES_TOGETHER
            or self.live.retired
            or not self.due()
        ):
            return False
        self._saved -= 1.0
        return True


class Shadow:
    """The tap of a version that has a shadow. Belongs to one event loop.

    Args:
        real: the version that answers.
        copies: what is on its way to the shadow, for all versions that have this one.
        mirrored: share of the requests that are copied, above 0 and up to 1.
        comparing: counts.
        draw: chance, evenly from 0 to 1.

    Attributes:
        reason: why nothing is compared, one sentence; empty when all is well.
    """

    def __init__(
        self,
        real: Live,
        copies: Copies,
        mirrored: float,
        comparing: Comparing,
        draw: Callable[[], float] = random.random,
    ) -> None:
        shadow = copies.live.signature
        self._copies = copies
        self._mirrored = mirrored
        self._comparing = comparing
        self._draw = draw
        self._copying = Copying(real.signature, shadow)
        wanders = real.loaded.variant.wanders or copies.live.loaded.variant.wanders
        self._sight = Sight(real.signature.classes, shadow.classes, texts=not wanders)
        self.reason = self._copying.reason

    def took(
        self, asked: Waiting, request_id: str, answers: Arrays | None, code: str, seconds: float
    ) -> None:
        """Ask the shadow the same, if chance wants it and there is room.

        What was answered in pieces it is asked to answer whole, which costs the event loop no more than any
        other copy; pieces would cost it anew for each.
        """
        real_s = _taken_s(asked)
        if self.reason or real_s is None or (code != OK and code not in _FAULTS):
            return
        if self._mirrored < 1.0 and self._draw() >= self._mirrored:
            return
        copies = self._copies
        # While no process of it is ready, a copy would only wait for one, and cost what every copy costs.
        late = real_s > LIMIT_S and isinstance(asked, Streamed)
        if late or not copies.due() or copies.live.loaded.executor.away:
            self._comparing.drop()
            return
        size = _size(asked.arrays) + (0 if answers is None else _size(answers))
        if not copies.room(size):
            self._comparing.drop()
            return
        kept = None if answers is None else {name: np.array(array) for name, array in answers.items()}
        copy = _Copy(self._copying.copied(asked.arrays), asked.rows, size, self, _Real(kept, real_s))
        copies.count += 1
        copies.bytes += size
        copies.live.enter()
        try:
            copies.live.batcher.submit(copy)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the shadow made of the copy
            copy.settle(None, error)

    def answered(self, copy: "_Copy", answers: Arrays | None, error: BaseException | None) -> None:
        """The shadow is done with a copy."""
        copies, comparing, real = self._copies, self._comparing, copy.real
        copies.count -= 1
        copies.bytes -= copy.size
        copies.live.leave()
        if isinstance(error, _TOO_MUCH):
            comparing.drop()
        elif answers is None:
            code = error.code if isinstance(error, ServableError) else "internal_error"
            comparing.failed(code, real_failed=real.answers is None)
        elif real.answers is None:
            comparing.alone()
        else:
            shadow_s = _now() - copy.queued_at
            try:
                seen = self._sight.differences(real.answers, answers)
            except (IndexError, TypeError, ValueError):
                # The shadow's answer has not the form that its signature promises.
                comparing.failed("model_failed", real_failed=False)
            else:
                comparing.both(seen, real.seconds, shadow_s)


class Mirrored(Taps):
    """A tap that a live model had, and its shadow.

    Attributes:
        own: what it had.
    """

    def __init__(self, own: Tap, shadow: Shadow) -> None:
        super().__init__((own, shadow))
        self.own = own


class Shadows:
    """Gives live models their shadows. Belongs to one event loop.

    Args:
        metrics: keep what is counted, also when a shadow goes and comes back.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._copies: dict[Key, Copies] = {}

    def attach(self, lives: Mapping[Key, Live]) -> None:
        """Let every version that answers be mirrored as the division of its model says, or no more.

        Whatever other tap a live model has it keeps.

        Args:
            lives: all that is live.
        """
        shadows = {key: live for key, live in lives.items() if live.wanted.is_shadow}
        for key, live in shadows.items():
            known = self._copies.get(key)
            if known is None or known.live is not live:
                self._copies[key] = Copies(live)
        self._copies = {key: self._copies[key] for key in shadows}
        for key, live in lives.items():
            own = live.tap.own if isinstance(live.tap, Mirrored) else live.tap
            copies = self._copies.get((live.model, live.wanted.traffic.shadow))
            if copies is None or key in shadows:
                live.tap = own
                continue
            comparing = self._metrics.comparing(live.model, live.version, copies.live.version)
            shadow = Shadow(live, copies, live.wanted.traffic.mirrored, comparing)
            if shadow.reason:
                _log.warning(
                    "a shadow cannot be compared",
                    extra=fields(model=copies.live.wanted.reference, reason=shadow.reason),
                )
            live.tap = Mirrored(own, shadow)


class _Real(NamedTuple):
    """What the version itself made of a request: answers or none, after so many seconds from the queue."""

    answers: Mapping[str, Any] | None
    seconds: float


class _Copy(Waiting):
    """A request once more, for the shadow."""

    __slots__ = ("real", "shadow", "size")

    def __init__(self, arrays: Arrays, rows: int, size: int, shadow: Shadow, real: _Real) -> None:
        super().__init__(arrays, rows, _now() + LIMIT_S, WEIGHT)
        self.size = size
        self.shadow = shadow
        self.real = real

    def settle(self, arrays: dict[str, Any] | None, error: BaseException | None) -> None:
        """Compare; nobody waits for it."""
        self.shadow.answered(self, arrays, error)


def _taken_s(asked: Waiting) -> float | None:
    """Seconds that the version itself took for a request; None where it was not asked."""
    if isinstance(asked, Streamed):
        return asked.taken_s
    return None if asked.state == NEW else _now() - asked.queued_at


def _size(arrays: Arrays) -> int:
    """Bytes of arrays; of texts, of what points at them."""
    return sum(array.nbytes for array in arrays.values())
