"""Which version answers a request while the requests of a model are divided. Pure.

With a key the choice is a weighted rendezvous: every version draws a number for the key, from a hash that
all servers share, and the smallest number over weight wins. So a key meets the same version on every
server, and a version whose weight rises only takes keys over: from the others, never the other way
(``docs/decisions/0032-how-keys-map-to-versions.md``). Without a key it is chance.
"""

import hashlib
import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import partial
from itertools import accumulate

from servable.registry.records import Share

#: Bits of the hash that are used: as many as a float holds exactly.
_BITS = 53
_STEP = 2.0**-_BITS
_ALL = 2**64 - 1
_log = math.log
_hash = partial(hashlib.blake2b, digest_size=8)


class Division:
    """The shares of a model's requests. Immutable and safe to share.

    Args:
        model: its name, so that one customer is not the first to meet the new version of every model.
        shares: at least one; what counts is each weight's part of their sum.
    """

    __slots__ = ("_beginning", "_bounds", "_draws", "_versions", "shares")

    def __init__(self, model: str, shares: Sequence[Share]) -> None:
        ordered = sorted(shares, key=lambda share: share.version)
        self._versions = tuple(share.version for share in ordered)
        total = math.fsum(share.weight for share in ordered)
        #: What part of the requests each version gets; together 1.
        self.shares = {share.version: share.weight / total for share in ordered}
        # The last bound is left out: whatever lies above the one before is the last version's.
        self._bounds = tuple(accumulate(self.shares.values()))[:-1]
        self._beginning = model.encode() + b"\0"
        self._draws = tuple((share.version, share.weight, _drawn(share.version)) for share in ordered)

    def version(self, key: bytes | None, chance: float) -> int:
        """The version that answers a request.

        Args:
            key: what keeps callers with one version, such as a customer's number; None for nothing.
            chance: evenly drawn from 0 to 1, without 1; it decides where there is no key.
        """
        if key is None:
            return self._versions[bisect_right(self._bounds, chance)]
        drawn = int.from_bytes(_hash(self._beginning + key).digest(), "big")
        best, least = self._versions[0], math.inf
        for version, weight, offset in self._draws:
            number = (_mixed(drawn + offset) >> (64 - _BITS)) + 0.5
            # The time until an event that comes with this weight as its rate: who comes first wins, and
            # the chance of that is the weight over the sum of all.
            waited = -_log(number * _STEP) / weight
            if waited < least:
                best, least = version, waited
        return best


def _drawn(version: int) -> int:
    """64 bits for a version, far from those of its neighbours."""
    return _mixed(version * 0x9E3779B97F4A7C15)


def _mixed(number: int) -> int:
    """64 bits of which each depends on all 64 of the number (the last step of SplitMix64)."""
    number &= _ALL
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 & _ALL
    number = (number ^ (number >> 27)) * 0x94D049BB133111EB & _ALL
    return number ^ (number >> 31)
