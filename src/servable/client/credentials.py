"""What a caller shows to a server, and whom it trusts."""

import os
import ssl
from pathlib import Path

import httpx

from servable.errors import SettingInvalid

#: The environment variable whose key is sent when none is given.
KEY_VARIABLE = "SERVABLE_API_KEY"
#: The variables whose files are shown as the client's certificate when none is given.
CERT_VARIABLE, CERT_KEY_VARIABLE = "SERVABLE_CLIENT_CERT", "SERVABLE_CLIENT_KEY"
#: A client's certificate: a file that holds its key as well, or one file for each.
Certificate = str | Path | tuple[str | Path, str | Path]


def key_of(given: str | None) -> str | None:
    """The key to send.

    Args:
        given: by the caller; the empty one sends none.

    Returns:
        That, or the one of the environment; None for none.
    """
    return (os.environ.get(KEY_VARIABLE) if given is None else given) or None


def trust_of(ca: str | Path | None, cert: Certificate | None = None) -> ssl.SSLContext | bool:
    """Whose certificates are trusted and which one is shown, as the HTTP client takes it.

    Args:
        ca: file of authorities in PEM; None for that of the variable ``SSL_CERT_FILE``, or the usual ones.
        cert: file of the client's certificate and its key in PEM, or one file for each; None for those of the
            variables ``SERVABLE_CLIENT_CERT`` and ``SERVABLE_CLIENT_KEY``, or none.

    Raises:
        SettingInvalid: a file cannot be used.
    """
    file = ca or os.environ.get("SSL_CERT_FILE")
    own = cert or _certificate_of_environment()
    if not file and not own:
        return True
    try:
        context = ssl.create_default_context(cafile=str(file)) if file else httpx.create_ssl_context()
    except (OSError, ssl.SSLError) as error:
        raise SettingInvalid(f"{file} holds no certificates of authorities in PEM.") from error
    if own:
        chain, key = own if isinstance(own, tuple) else (own, None)
        try:
            # The callback keeps OpenSSL from asking a person at the terminal.
            context.load_cert_chain(chain, key, password=lambda: b"")
        except (OSError, ssl.SSLError, ValueError) as error:
            raise SettingInvalid(
                f"{chain} and {key or chain} are no certificate with its key in PEM, without a password."
            ) from error
    return context


def _certificate_of_environment() -> Certificate | None:
    chain, key = os.environ.get(CERT_VARIABLE), os.environ.get(CERT_KEY_VARIABLE)
    return (chain, key) if chain and key else chain or None
