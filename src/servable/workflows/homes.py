"""Opening the home that a caller means."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from servable.errors import ServableError
from servable.logs import fields, logger
from servable.registry.audit_ship import ship
from servable.registry.home import Home, open_home
from servable.settings import load_settings
from servable.workflows.signers import NO_SIGNER, Signer

_log = logger("audit")


class Destination(NamedTuple):
    """Where a new version goes.

    Attributes:
        name: the model under which it is registered.
        deploy: whether it is deployed at once.
        home: the folder of the registry; looked up, and made, when None.
        signer: signs it before it is deployed.
    """

    name: str
    deploy: bool
    home: str | Path | None
    signer: Signer = NO_SIGNER


@contextmanager
def opened(home: str | Path | None, *, create: bool = False) -> Iterator[Home]:
    """The home given, else that of ``SERVABLE_HOME``, ``servable.toml``, or ``.servable``; closed at the end.

    Args:
        home: the folder, or None to look it up.
        create: whether it may be made.

    Raises:
        FileMissing: it does not exist and may not be made.
        StorageFull: no space left.
        StorageFailed: it is no folder, cannot be written, or its database is damaged.
        SettingInvalid: the settings that name it cannot be read.
    """
    settings = load_settings({"home": home})
    with open_home(
        settings.home,
        create=create,
        database_url=settings.database_url or None,
        blob_url=settings.blob_url,
    ) as found:
        yield found
        _checkpointed(found, settings.audit_ship)


def _checkpointed(home: Home, where: str) -> None:
    """Sign the audit log when that is due, where it is signed at all; what was done stays done without."""
    try:
        if home.audit.key.exists:
            note = home.audit.checkpoint_if_due()
            if note:
                ship(note, where)
    except ServableError as error:
        _log.warning("no checkpoint of the audit log was made", extra=fields(reason=error.message))
