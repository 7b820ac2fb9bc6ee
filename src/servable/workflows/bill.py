"""``sbom``: what a version is made of, as a bill of materials of CycloneDX, which other tools read."""

import json
import uuid
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from servable.artifact.files import storage_errors
from servable.artifact.manifest import Manifest
from servable.artifact.signature import Field, Signature
from servable.registry.records import VersionRecord
from servable.workflows.homes import opened

_VERSION = "1.6"
_HEAD = {
    "$schema": f"http://cyclonedx.org/schema/bom-{_VERSION}.schema.json",
    "bomFormat": "CycloneDX",
    "specVersion": _VERSION,
}


def bill_of_materials(
    reference: str, *, output: str | Path | None = None, home: str | Path | None = None
) -> dict[str, Any]:
    """What a version is made of; every file of its package is verified on the way.

    The bill names the model with its digest, task, inputs, answers and metrics, each file with its SHA-256,
    and the libraries that the trained form was made with. The same version gives the same bill.

    Args:
        reference: ``name`` (the newest version), ``name:3`` or ``name@alias``.
        output: a file to write it to as JSON; None for none.
        home: the folder of the registry; looked up when None.

    Raises:
        InputError: the reference is none.
        ModelNotFound: there is no such model.
        VersionNotFound: it has no such version or alias.
        ArtifactTampered: a file of the package differs from its digest.
        StorageFailed: the file cannot be written.
    """
    with opened(home) as place:
        record = place.models.resolve(reference)
        package = place.package(record)
        made = bill(record, package.manifest, package.signature)
    if output is not None:
        with storage_errors(f"writing the bill of materials {output}"):
            Path(output).write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return made


def bill(record: VersionRecord, manifest: Manifest, signature: Signature) -> dict[str, Any]:
    """The bill of a version. Pure."""
    name = f"{record.model}:{record.version}"
    libraries: list[dict[str, Any]] = [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{library}@{version}",
            "name": library,
            "version": version,
            "purl": f"pkg:pypi/{library}@{version}",
        }
        for library, version in sorted(manifest.libraries.items())
    ]
    files: list[dict[str, Any]] = [
        {
            "type": "file",
            "bom-ref": f"{name}/{entry.path}",
            "name": entry.path,
            "hashes": [{"alg": "SHA-256", "content": entry.sha256}],
        }
        for entry in manifest.files
    ]
    body: dict[str, Any] = {
        "metadata": {
            "timestamp": record.created_at,
            "tools": {
                "components": [{"type": "application", "name": "servable", "version": version_of("servable")}]
            },
            "component": {
                "type": "machine-learning-model",
                "bom-ref": name,
                "name": record.model,
                "version": str(record.version),
                "hashes": [{"alg": "SHA-256", "content": record.package}],
                "modelCard": _card(manifest, signature),
                "properties": _properties(manifest),
            },
        },
        "components": [*files, *libraries],
        "dependencies": [{"ref": name, "dependsOn": [each["bom-ref"] for each in (*files, *libraries)]}],
    }
    # By the contents, so that two bills of one version are one.
    number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(body, sort_keys=True))
    return {**_HEAD, "serialNumber": f"urn:uuid:{number}", "version": 1, **body}


def _card(manifest: Manifest, signature: Signature) -> dict[str, Any]:
    card: dict[str, Any] = {
        "modelParameters": {
            "task": signature.task,
            "architectureFamily": manifest.framework,
            "inputs": [{"format": _format(field)} for field in signature.inputs],
            "outputs": [{"format": _format(field)} for field in signature.outputs],
        }
    }
    if manifest.metrics:
        measured = [{"type": name, "value": str(value)} for name, value in sorted(manifest.metrics.items())]
        card["quantitativeAnalysis"] = {"performanceMetrics": measured}
    return card


def _format(field: Field) -> str:
    return f"{field.name}: {field.kind} ({field.dtype})"


def _properties(manifest: Manifest) -> list[dict[str, str]]:
    found = {
        "created_at": manifest.created_at,
        "serving": manifest.serving,
        # Whether somebody allowed a form that executes code when it is loaded.
        "trusted": str(manifest.trusted).lower(),
        **{f"source.{key}": str(value) for key, value in manifest.source.items()},
    }
    return [{"name": f"servable:{key}", "value": value} for key, value in sorted(found.items())]
