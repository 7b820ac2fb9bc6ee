"""The API key of a caller who names none."""

import os

#: The environment variable whose key is sent when none is given.
KEY_VARIABLE = "SERVABLE_API_KEY"


def key_of(given: str | None) -> str | None:
    """The key to send.

    Args:
        given: by the caller; the empty one sends none.

    Returns:
        That, or the one of the environment; None for none.
    """
    return (os.environ.get(KEY_VARIABLE) if given is None else given) or None
