"""Runs beside ``test_erasing_full``: somebody is erased on a small file system without any room left."""

import json
import sys
from pathlib import Path
from typing import Any

from faults.capture_faults import filled
from servable.errors import StorageFull
from servable.registry.reserve import Reserve
from servable.workflows.privacy import erase_subject, export_subject
from serving.making_people import publish_people
from workflows.test_privacy import ANN, BOB, EVE, ask, found_in


def full(folder: Path, *, clear: bool) -> dict[str, Any]:
    """Capture, take all the room, and erase: with what is kept for it, and before without.

    Args:
        folder: the small file system.
        clear: whether rows were captured in clear, so that segments must be written anew.
    """
    home, filler = folder / "home", folder / "filler"
    who = {"where": {"customer": ANN}} if clear else {}
    subjects = () if clear else (ANN,)
    publish_people(home, capture=1.0, **({} if clear else {"capture_subject": "customer"}))
    ask(home, [ANN, BOB, EVE] * 50)
    kept = (home / "erasure.reserve").stat().st_size
    Reserve(home).release()
    filled(filler)
    try:
        erase_subject(*subjects, **who, home=home, patience_s=1.0)
        without = "erased"
    except StorageFull:
        without = "StorageFull"
    filler.unlink()
    assert Reserve(home).keep()
    filled(filler)
    erased = erase_subject(*subjects, **who, home=home, patience_s=1.0)
    # The room is kept again for the next one, and what is asked now needs a little of its own.
    filler.unlink()
    return {
        "kept": kept,
        "without": without,
        "complete": erased.complete,
        "rows": export_subject(*subjects, **who, home=home).rows,
        "found": sorted(found_in(home) & {ANN}),
    }


if __name__ == "__main__":
    print(json.dumps(full(Path(sys.argv[1]), clear=sys.argv[2] == "clear")))
