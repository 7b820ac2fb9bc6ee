"""Versions for tests that need some."""

from artifact.making import fill, manifest
from servable.registry.home import Home, publish
from servable.registry.records import VersionRecord


def add(home: Home, model: str = "churn", content: bytes = b"the model", note: str = "") -> VersionRecord:
    """Publish a small package."""
    with home.packages.staging() as folder:
        fill(folder, content)
        return publish(home, folder, manifest(model), note=note)
