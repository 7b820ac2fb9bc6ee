"""All rows answered by the form of a version that serves, without a server."""

from collections.abc import Callable
from typing import Any

from servable.artifact.package import Package
from servable.frameworks import lookup
from servable.progress import Progress
from servable.runtime.model import variant_of
from servable.tensors import Arrays, row_count, stack


def answers(
    package: Package, part: Callable[[slice], Arrays], size: int, chunk_rows: int, progress: Progress
) -> dict[str, Any]:
    """What the variant that serves answers to all rows, a chunk at a time.

    Args:
        package: of the version.
        part: some of the rows as arrays for the model.
        size: how many rows there are, at least one.
        chunk_rows: as many are answered in one run.
        progress: told of each chunk, in rows.
    """
    chosen = variant_of(package.manifest)
    adapter = lookup.adapter(chosen.format)
    predictor = adapter.load(package.folder, chosen, package.signature, trust=package.manifest.trusted)
    parts = []
    try:
        for start in range(0, size, chunk_rows):
            rows = part(slice(start, start + chunk_rows))
            parts.append(predictor.predict(rows))
            progress.advance(row_count(rows))
    finally:
        predictor.close()
    return stack(parts)
