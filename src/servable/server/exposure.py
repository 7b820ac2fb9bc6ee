"""Whether a server may listen where it is told to."""

from contextlib import closing
from pathlib import Path

from servable.errors import SettingInvalid
from servable.registry.keys_reader import open_keys_reader
from servable.settings import ServerSettings, is_loopback


def check_exposure(settings: ServerSettings) -> None:
    """Refuse an address that others can reach while nobody needs a key, unless that was asked for.

    Args:
        settings: the address, the registry whose keys count, tokens and certificates that count as well, and
            ``insecure``.

    Raises:
        SettingInvalid: a non-loopback address, nothing that callers must show, and not ``insecure``.
        StorageFailed: the keys cannot be read.
    """
    if is_loopback(settings.host) or settings.insecure or settings.oidc_issuer or settings.tls_client_map:
        return
    with closing(open_keys_reader(Path(settings.home), settings.database_url)) as reader:
        if reader.keys():
            return
    raise SettingInvalid(
        f"Listening on {settings.host} lets every machine that reaches it call the models, and nobody needs "
        "a key yet; make one with: servable keys create --name NAME --scope predict:MODEL, or listen on "
        "127.0.0.1, or say --allow-unauthenticated."
    )
