"""What the live models hold at this moment, and what could not be loaded, for the figures."""

from servable.monitoring.metrics import Held
from servable.serving.live import Live
from servable.serving.table import Table


def held(table: Table) -> dict[tuple[str, int], Held]:
    """Memory and processes of every loaded version, by name and version."""
    return {
        (live.model, live.version): _held(live, live.executor.statistics().processes)
        for live in (*table.targets.values(), *table.warm)
    }


def failed(table: Table) -> dict[str, str]:
    """Why wanted versions could not be loaded, by reference ``name:version``."""
    return {
        f"{status.model}:{status.version}": status.reason
        for status in table.statuses
        if status.state == "failed"
    }


def _held(live: Live, processes: int) -> Held:
    loaded = live.loaded
    on_gpu = loaded.accelerator_bytes // loaded.sharers
    if loaded.sharers > 1:
        return Held(live.size, shared_processes=processes, accelerator_bytes=on_gpu)
    return Held(live.size, processes, accelerator_bytes=on_gpu)
