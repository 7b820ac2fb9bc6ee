"""The machine, not the caller."""

from servable.errors.root import ServableError


class SurroundingsError(ServableError, code="surroundings"):
    """The machine does not provide what is needed."""


class DependencyMissing(SurroundingsError, code="dependency_missing"):
    """A library is not installed; the message names the extra that brings it."""


class PortInUse(SurroundingsError, code="port_in_use"):
    """Another process listens on this port."""


class StorageFull(SurroundingsError, code="storage_full"):
    """No space left where the home or the database lives."""


class StorageFailed(SurroundingsError, code="storage_failed"):
    """Permissions, input/output errors, or a damaged database."""
