"""The Engine seam: what runs the servers. ``local`` runs one in this process."""

from typing import Protocol


class Engine(Protocol):
    """Runs servers until it is stopped. Methods may be called from any thread, one at a time."""

    def start(self) -> None:
        """Bring the servers up; returns when every model was tried.

        Raises:
            PortInUse: somebody else listens there.
            SettingInvalid: the settings cannot be used.
            ServableError: why nothing could be served.
        """
        ...

    @property
    def urls(self) -> tuple[str, ...]:
        """The base addresses, without a slash at the end; empty before ``start``."""
        ...

    def stop(self) -> None:
        """Drain and end. Stopping what is stopped does nothing."""
        ...
