"""What is known of served versions beyond one process, as the registry's findings keep it. Pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from servable.monitoring.alerts import AlertState
from servable.monitoring.drift_records import State
from servable.monitoring.quality import VersionQuality

_Form = TypeVar("_Form", bound=msgspec.Struct)


class Kept(Protocol):
    """A finding: what is kept of one version of one model."""

    @property
    def model(self) -> str:
        """Its name."""

    @property
    def version(self) -> int:
        """Which one; 0 for what concerns the model as a whole."""

    @property
    def value(self) -> Mapping[str, Any]:
        """Plain values as JSON has them."""


class ColumnStanding(msgspec.Struct, frozen=True, kw_only=True):
    """What was found about one column last.

    Attributes:
        name: of the column; ``prediction``, ``probability`` and ``error`` where it is no input.
        side: ``input``, ``output``, ``quality`` or ``unused``.
        state: as that of ``ColumnDrift``.
        since: when the drift began, ISO 8601 in UTC; empty where nobody knows.
        since_row: at which row it began; None where there is no drift.
        effect: how far the newest window is off.
    """

    name: str
    side: str
    state: State
    since: str = ""
    since_row: int | None = None
    effect: float = 0.0

    @property
    def drifting(self) -> bool:
        """Whether it is in drift now."""
        return self.state == "drift"


class VersionDrift(msgspec.Struct, frozen=True, kw_only=True):
    """What was found about the columns of one version last, drift first."""

    columns: tuple[ColumnStanding, ...] = ()

    @property
    def drifting(self) -> tuple[ColumnStanding, ...]:
        """Columns in drift now."""
        return tuple(column for column in self.columns if column.drifting)


class ModelAlerts(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules say of the versions of one model."""

    states: tuple[AlertState, ...] = ()

    @property
    def firing(self) -> tuple[AlertState, ...]:
        """Alerts that fire now."""
        return tuple(state for state in self.states if state.status == "firing")


class Known(NamedTuple):
    """What was found last, by model and version; alerts stand under version 0 of their model."""

    quality: Mapping[tuple[str, int], VersionQuality] = {}
    drift: Mapping[tuple[str, int], VersionDrift] = {}
    alerts: Mapping[tuple[str, int], ModelAlerts] = {}


#: Nothing is known.
UNKNOWN = Known()


def known(of: Callable[[str], Iterable[Kept]]) -> Known:
    """What the findings say.

    Args:
        of: gives the findings of a kind, and raises what it raises.
    """
    return Known(
        quality=_understood(of("quality"), VersionQuality),
        drift=_understood(of("drift"), VersionDrift),
        alerts=_understood(of("alerts"), ModelAlerts),
    )


def _understood(findings: Iterable[Kept], form: type[_Form]) -> dict[tuple[str, int], _Form]:
    found: dict[tuple[str, int], _Form] = {}
    for finding in findings:
        try:
            found[finding.model, finding.version] = msgspec.convert(finding.value, form)
        except msgspec.ValidationError:
            # A newer program wrote it, which shows it as well.
            continue
    return found
