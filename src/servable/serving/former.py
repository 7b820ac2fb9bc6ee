"""The versions before: kept loaded for a while after a switch, so that a rollback needs no load."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from servable.clock import Clock
from servable.serving.live import Key, Live, ModelStatus, Wanted

_REASON = "It answered before and is kept loaded for a while, so that a rollback is instant."


class _Kept(NamedTuple):
    live: Live
    until: float


class Former:
    """Of each model at most one version that takes no requests. Belongs to one event loop.

    Under a budget of memory whoever needs room may send them away.

    Args:
        keep_s: seconds for which one is kept; 0 keeps none.
        clock: times them.
    """

    def __init__(self, keep_s: float, clock: Clock) -> None:
        self._keep_s = keep_s
        self._now = clock.monotonic
        self._kept: dict[str, _Kept] = {}

    def __iter__(self) -> Iterator[Live]:
        return iter([kept.live for kept in self._kept.values()])

    def __len__(self) -> int:
        return len(self._kept)

    def serving(self, wanted: Wanted) -> Live | None:
        """The one that serves a wanted version; None when it is not here."""
        kept = self._kept.get(wanted.model)
        if kept is None or not kept.live.wanted.loads_like(wanted):
            return None
        return kept.live

    def switched(
        self,
        answered: Iterable[Live],
        before: Mapping[str, Live],
        lives: Mapping[Key, Live],
        named: Mapping[str, Live],
    ) -> list[Live]:
        """Take note of a switch: what answers again is taken out, what was replaced is kept.

        Args:
            answered: everything that took requests before.
            before: of each name, the version that answered to it then.
            lives: what takes requests from now on.
            named: of each name, the version that answers to it from now on.

        Returns:
            What nobody has a use for any more.
        """
        gone = []
        for model, kept in list(self._kept.items()):
            if lives.get(kept.live.key) is kept.live:
                del self._kept[model]
            elif model not in named or kept.live.key in lives:
                del self._kept[model]
                gone.append(kept.live)
        for live in answered:
            if lives.get(live.key) is live:
                continue
            replaced = before.get(live.model) is live and live.model in named and live.key not in lives
            if not (replaced and self._keep_s > 0):
                gone.append(live)
                continue
            earlier = self._kept.get(live.model)
            if earlier is not None:
                gone.append(earlier.live)
            self._kept[live.model] = _Kept(_unpinned(live), self._now() + self._keep_s)
        return gone

    def take(self, live: Live) -> bool:
        """Take one out; whether it was there."""
        kept = self._kept.get(live.model)
        if kept is None or kept.live is not live:
            return False
        del self._kept[live.model]
        return True

    def of(self, model: str) -> Live | None:
        """The one of a model."""
        kept = self._kept.get(model)
        return None if kept is None else kept.live

    def over(self) -> list[Live]:
        """Those that were kept for long enough; they are taken out."""
        now = self._now()
        over = [kept.live for kept in self._kept.values() if kept.until <= now]
        for live in over:
            del self._kept[live.model]
        return over

    def clear(self) -> None:
        """Forget all of them; whoever calls this closes them."""
        self._kept.clear()

    def statuses(self) -> dict[Live, ModelStatus]:
        """What a person sees of them."""
        return {
            live: msgspec.structs.replace(live.status(0.0), state="warm", reason=_REASON, mirrored=0.0)
            for live in self
        }


def _unpinned(live: Live) -> Live:
    """The same, which nothing holds in memory any more and no alias means."""
    policy = msgspec.structs.replace(live.wanted.policy, pinned=False)
    live.wanted = live.wanted._replace(policy=policy, aliases=(), default=False)
    return live
