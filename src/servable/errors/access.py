"""Who asks may not do that."""

from servable.errors.root import ServableError


class AccessError(ServableError, code="access"):
    """Who asks may not do that."""


class Unauthenticated(AccessError, code="unauthenticated"):
    """No key, or none that is valid; why it is not valid is not said.

    Args:
        shown: whether the caller showed something.
        browser: whether a person asks, whose browser can ask for the key.
        key: the public id in what the caller showed, for the audit log.
    """

    def __init__(self, shown: bool = False, browser: bool = False, key: str = "") -> None:
        super().__init__(
            "The API key or token is not valid here; ask whoever runs this server for another."
            if shown
            else "This server wants an API key, in the header Authorization: Bearer KEY or X-API-Key: KEY."
        )
        self.shown = shown
        self.browser = browser
        self.key = key


class Forbidden(AccessError, code="forbidden"):
    """The key is valid and does not allow it.

    Args:
        message: what it does not allow.
        need: what the caller wanted to do, in a word.
        model: with which model; a star for all.
    """

    def __init__(self, message: str, need: str = "", model: str = "") -> None:
        super().__init__(message)
        self.need = need
        self.model = model


class OriginRefused(AccessError, code="origin_refused"):
    """A page of somebody else made a browser send it (a guard against forged requests)."""
