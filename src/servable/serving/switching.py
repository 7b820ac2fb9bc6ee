"""Which live models follow from what is wanted and what is loaded: the decision behind a switch."""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from servable.serving.former import Former
from servable.serving.live import Key, Live, Wanted


class Loaded(NamedTuple):
    """What is in memory before a switch.

    Attributes:
        lives: what takes requests.
        fresh: loaded, and waiting to be switched to.
        former: kept warm.
        named: of each name, the version that answers whatever no other has a share of.
    """

    lives: Mapping[Key, Live]
    fresh: Mapping[Key, Live]
    former: Former
    named: Mapping[str, Live]

    def serving(self, wanted: Wanted) -> Live | None:
        """The loaded model that serves a wanted version; None when it must be loaded."""
        live = self.fresh.get(wanted.key)
        if live is not None:
            return live
        live = self.lives.get(wanted.key)
        if live is not None and live.wanted.loads_like(wanted):
            return live
        return self.former.serving(wanted)

    def before(self, wanted: Wanted) -> Live | None:
        """What goes on answering while a wanted version is not ready.

        The same version as it was loaded before, or in place of a deployment's own version the one that it
        is to replace.
        """
        return self.lives.get(wanted.key) or (self.named.get(wanted.model) if wanted.own else None)


class Next(NamedTuple):
    """What takes requests after a switch.

    Attributes:
        lives: all of it.
        named: of each name, the version that answers whatever no other has a share of.
        missing: wanted versions that are not among them.
    """

    lives: dict[Key, Live]
    named: dict[str, Live]
    missing: list[Wanted]


def next_of(wanted: Iterable[Wanted], loaded: Loaded, failed: Collection[Wanted]) -> Next:
    """What takes requests from now on. Tells each live model what it is wanted for.

    Args:
        wanted: every version that should be live.
        loaded: what is there.
        failed: versions among them that could not be loaded; what was there before goes on answering in
            their place.
    """
    lives: dict[Key, Live] = {}
    named: dict[str, Live] = {}
    missing: list[Wanted] = []
    for each in wanted:
        live = loaded.serving(each)
        if live is None:
            missing.append(each)
            continue
        live.wanted = each
        lives[each.key] = live
        if each.own:
            named[each.model] = live
    for each in missing:
        before = loaded.before(each) if each in failed else None
        if before is None:
            continue
        if before.key not in lives:
            # It stays what it was loaded as, and does what its successor is wanted for.
            before.wanted = before.wanted._replace(default=each.default, own=each.own, traffic=each.traffic)
            lives[before.key] = before
        if each.own:
            named[each.model] = lives[before.key]
    for model, live in _heaviest(lives.values()).items():
        named.setdefault(model, live)
    return Next(lives, named, missing)


def _heaviest(lives: Iterable[Live]) -> dict[str, Live]:
    """Of each model the live version with the largest share: it answers when the deployment's own cannot."""
    found: dict[str, tuple[float, int, Live]] = {}
    for live in lives:
        for share in live.wanted.traffic.shares:
            if share.version != live.version:
                continue
            present = found.get(live.model)
            if present is None or (share.weight, -live.version) > present[:2]:
                found[live.model] = (share.weight, -live.version, live)
    return {model: live for model, (_, _, live) in found.items()}
