"""What the live models hold at this moment, for the figures."""

from servable.monitoring.metrics import Held
from servable.serving.live import Table


def held(table: Table) -> dict[tuple[str, int], Held]:
    """Memory and processes of every live version, by name and version."""
    return {
        (live.model, live.version): Held(live.size, live.executor.statistics().processes)
        for live in table.targets.values()
    }
