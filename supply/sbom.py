"""The software bill of materials: CycloneDX 1.6, made of the locks, the same bytes for the same locks."""

import json
import uuid
from pathlib import Path
from typing import Any

from supply.locks import LOCK, ROOT, TORCH, Locked, names, needs, project, reached, read

_VERSION = "1.6"
_SCHEMA = f"http://cyclonedx.org/schema/bom-{_VERSION}.schema.json"


def bill() -> dict[str, Any]:
    """The bill: what a server needs is required, what extras need is optional, tools are excluded."""
    packages = read(LOCK.read_text()) + read("\n".join(
        line for line in TORCH.read_text().splitlines() if not line.startswith("#")
    ))  # fmt: skip
    table, described = needs(packages), project()
    extras = [names(wanted) for wanted in described["optional-dependencies"].values()]
    required = reached(names(described["dependencies"]), table)
    optional = reached(set().union(*extras), table) - required

    def scope(name: str) -> str:
        return "required" if name in required else "optional" if name in optional else "excluded"

    root = {
        "type": "application",
        "bom-ref": described["name"],
        "name": described["name"],
        "version": _own_version(),
        "description": described["description"],
        "licenses": [{"license": {"id": described["license"]}}],
        "purl": f"pkg:pypi/{described['name']}@{_own_version()}",
    }
    direct = sorted(
        _ref(each) for each in packages if any(by.startswith("servable") for by in each.needed_by)
    )
    # A package may be locked in several versions, for different machines.
    by_name: dict[str, list[str]] = {}
    for each in packages:
        by_name.setdefault(each.name, []).append(_ref(each))
    body: dict[str, Any] = {
        "metadata": {"component": root},
        "components": [_component(each, scope(each.name)) for each in packages],
        "dependencies": [
            {"ref": root["bom-ref"], "dependsOn": direct},
            *(
                {
                    "ref": _ref(each),
                    "dependsOn": sorted(ref for name in table[each.name] for ref in by_name[name]),
                }
                for each in packages
            ),
        ],
    }
    # By the contents, so that two bills of one lock are one.
    number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(body, sort_keys=True))
    head = {"$schema": _SCHEMA, "bomFormat": "CycloneDX", "specVersion": _VERSION}
    return {**head, "serialNumber": f"urn:uuid:{number}", "version": 1, **body}


def write(path: Path) -> None:
    """Write the bill."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(bill(), indent=1) + "\n", encoding="utf-8")


def faults(path: Path) -> str:
    """What the schema of CycloneDX has against a bill; empty for nothing.

    Raises:
        ImportError: its library is not installed.
    """
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text(encoding="utf-8"))
    return "" if found is None else str(found)


def _ref(package: Locked) -> str:
    return f"pkg:pypi/{package.name}@{package.version}"


def _component(package: Locked, scope: str) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": _ref(package),
        "name": package.name,
        "version": package.version,
        "scope": scope,
        "purl": _ref(package),
    }
    if package.digests:
        # A version has a file for each kind of machine, and one of them is installed.
        component["externalReferences"] = [
            {
                "type": "distribution",
                "url": f"https://pypi.org/project/{package.name}/{package.version}/#files",
                "comment": "the digests of the files of this version",
                "hashes": [{"alg": "SHA-256", "content": each} for each in package.digests],
            }
        ]
    if package.marker:
        component["properties"] = [{"name": "servable:marker", "value": package.marker}]
    return component


def _own_version() -> str:
    text = (ROOT / "src" / "servable" / "__init__.py").read_text()
    return text.partition('__version__ = "')[2].partition('"')[0]
