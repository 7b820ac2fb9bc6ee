"""``python -m supply sbom|audit``; see ``make sbom`` and ``make audit``."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from supply import sbom
from supply.audit import audit
from supply.locks import ROOT


def main() -> int:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(prog="python -m supply", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("sbom", help="write the bill of materials")
    making.add_argument("--output", type=Path, default=ROOT / "dist" / "servable.cdx.json")
    making.add_argument("--check", action="store_true", help="against the schema of CycloneDX")
    commands.add_parser("audit", help="ask what is known against the locked packages")
    given = parser.parse_args()
    if given.command == "audit":
        return audit(datetime.now(UTC).date())
    sbom.write(given.output)
    wrong = sbom.faults(given.output) if given.check else ""
    print(wrong or f"Written: {given.output}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
