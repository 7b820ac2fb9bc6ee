"""Which live models follow from what is wanted and what is loaded: the decision behind a switch."""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from servable.serving.former import Former
from servable.serving.live import Key, Live, ModelStatus, Wanted
from servable.serving.table import Table


class Loaded(NamedTuple):
    """What is in memory before a switch.

    Attributes:
        lives: what takes requests.
        fresh: loaded, and waiting to be switched to.
        former: kept warm.
        table: made of what takes requests.
    """

    lives: Mapping[Key, Live]
    fresh: Mapping[Key, Live]
    former: Former
    table: Table

    def serving(self, wanted: Wanted) -> Live | None:
        """The loaded model that serves a wanted version; None when it must be loaded."""
        for known in (self.fresh, self.lives):
            live = known.get(wanted.key)
            if live is not None and live.wanted.loads_like(wanted):
                return live
        return self.former.serving(wanted)

    def before(self, wanted: Wanted) -> Live | None:
        """What goes on answering while a wanted version is not ready.

        The same version as it was loaded before, or in place of a deployment's own version the one that it
        is to replace.
        """
        return self.lives.get(wanted.key) or (self.table.models.get(wanted.model) if wanted.own else None)


class Next(NamedTuple):
    """What takes requests after a switch.

    Attributes:
        lives: all of it.
        named: of each name, the version that answers whatever no other has a share of.
        failures: wanted versions that are not among them, and why.
        fresh: loaded, and still waiting for others of their model.
        unused: loaded, and not wanted any more.
    """

    lives: dict[Key, Live]
    named: dict[str, Live]
    failures: list[ModelStatus]
    fresh: dict[Key, Live]
    unused: list[Live]


def next_of(
    wanted: Iterable[Wanted],
    loaded: Loaded,
    failures: Mapping[Wanted, ModelStatus],
    colds: Collection[Key],
    held: Collection[str],
) -> Next:
    """What takes requests from now on. Tells each live model what it is wanted for.

    Args:
        wanted: every version that should be live, of the models that are switched.
        loaded: what is there.
        failures: versions among them that could not be loaded; what was there before goes on answering in
            their place.
        colds: versions that are loaded when they are called.
        held: models that stay as they are.
    """
    lives = {key: live for key, live in loaded.lives.items() if live.model in held}
    named = {name: live for name, live in loaded.table.models.items() if name in held}
    failed = [each for each in loaded.table.failures if each.model in held]
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
        before = loaded.before(each) if each in failures else None
        if each in failures and (before is not None or each.key not in colds):
            failed.append(failures[each])
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
    fresh = {key: live for key, live in loaded.fresh.items() if live.model in held}
    unused = [live for key, live in loaded.fresh.items() if key not in fresh and lives.get(key) is not live]
    return Next(lives, named, failed, fresh, unused)


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
