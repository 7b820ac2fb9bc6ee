"""A model of which several live versions answer: each request finds one of them."""

import random
from collections.abc import Callable, Iterable

from servable.protocols.base import Head
from servable.rollout.traffic import Division
from servable.serving.live import Live

#: Its value keeps a caller with one version, unless the deployment names another header.
KEY_HEADER = b"x-servable-key"


class Split:
    """The live versions among which the requests of one model are divided. Belongs to one event loop.

    Args:
        own: answers whatever no other live version has a share of.
        lives: the live versions of the model; a version that has a share and is not among them is not
            asked, and ``own`` answers in its place. No other key changes its version by that.
        chance: draws evenly from 0 to 1, for requests without a key.
    """

    __slots__ = ("_by_version", "_chance", "_division", "_header", "own")

    def __init__(self, own: Live, lives: Iterable[Live], chance: Callable[[], float] = random.random) -> None:
        wanted = own.wanted
        self.own = own
        self._chance = chance
        self._division = Division(own.model, wanted.traffic.shares)
        self._header = wanted.policy.sticky.lower().encode() or KEY_HEADER
        named = self._division.shares
        self._by_version = {live.version: live for live in lives if live.version in named}

    @property
    def model(self) -> str:
        """Its name."""
        return self.own.model

    @property
    def shares(self) -> dict[int, float]:
        """What part of the requests each live version answers; together 1."""
        found = {self.own.version: 0.0}
        for version, share in self._division.shares.items():
            answering = self._by_version.get(version, self.own).version
            found[answering] = found.get(answering, 0.0) + share
        return found

    @property
    def header(self) -> str:
        """The header whose value keeps a caller with one version, in small letters."""
        return self._header.decode()

    def pick(self, head: Head) -> Live:
        """The version that answers a request.

        Args:
            head: the request's headers; the same key finds the same version, on every server.
        """
        key = head.get(self._header)
        version = self._division.version(key or None, 0.0 if key else self._chance())
        return self._by_version.get(version, self.own)
