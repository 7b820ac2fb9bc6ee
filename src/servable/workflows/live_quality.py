"""What is known of the quality of served versions; read from the registry, nothing is worked out."""

import msgspec

from servable.monitoring.quality import VersionQuality
from servable.registry.home import Home

#: The kind of the findings of versions.
QUALITY = "quality"


def known_quality(home: Home) -> dict[tuple[str, int], VersionQuality]:
    """The quality of versions as it was found last, by model and version.

    Raises:
        StorageFailed: the registry cannot be read.
    """
    known: dict[tuple[str, int], VersionQuality] = {}
    for finding in home.findings.of(QUALITY):
        try:
            known[finding.model, finding.version] = msgspec.convert(finding.value, VersionQuality)
        except msgspec.ValidationError:
            # A newer program wrote it.
            continue
    return known
