"""What a caller shows to a server, and whom it trusts."""

import os
import ssl
from pathlib import Path

from servable.errors import SettingInvalid

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


def trust_of(ca: str | Path | None) -> ssl.SSLContext | bool:
    """Whose certificates are trusted, as the HTTP client takes it.

    Args:
        ca: file of authorities in PEM; None for that of the variable ``SSL_CERT_FILE``, or the usual ones.

    Raises:
        SettingInvalid: the file cannot be used.
    """
    file = ca or os.environ.get("SSL_CERT_FILE")
    if not file:
        return True
    try:
        return ssl.create_default_context(cafile=str(file))
    except (OSError, ssl.SSLError) as error:
        raise SettingInvalid(f"{file} holds no certificates of authorities in PEM.") from error
