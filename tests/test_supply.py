"""The locks are whole, and the bill of materials and the audit say what is in them."""

import importlib.util
import json
import re
import sys
import tomllib
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "requirements"
#: Packages of extras that no lock names: PyTorch and what asks for it, of which each kind of machine needs
#: another build.
_NOT_LOCKED = {"opacus"}


@pytest.fixture(scope="module")
def supply() -> dict[str, ModuleType]:
    """The modules of the folder beside the package, which is not installed."""
    found: dict[str, ModuleType] = {}
    for name in ("supply", "supply.locks", "supply.sbom", "supply.audit"):
        file = ROOT / "supply" / f"{name.partition('.')[2] or '__init__'}.py"
        places = [str(file.parent)] if name == "supply" else None
        spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=places)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = found[name.rpartition(".")[2]] = module
        spec.loader.exec_module(module)
    return found


@pytest.mark.parametrize("lock", sorted(REQUIREMENTS.glob("*.lock")), ids=lambda path: path.name)
def test_every_line_of_a_lock_has_a_digest(lock: Path, supply: dict[str, ModuleType]) -> None:
    packages = supply["locks"].read(lock.read_text())
    assert len(packages) > 30
    assert [each.name for each in packages if not each.digests] == []
    assert [each.name for each in packages if not each.needed_by] == []
    # Nothing but pinned packages: no address, no other index, no file of this machine.
    assert (
        re.findall(r"^(?:-|.*(?:://| @ ))", re.sub(r"^ +.*$", "", lock.read_text(), flags=re.MULTILINE)) == []
    )


def test_every_requirement_of_the_project_is_locked(supply: dict[str, ModuleType]) -> None:
    locks = supply["locks"]
    locked = {each.name for each in locks.read(locks.LOCK.read_text())} | {"torch"}
    table = locks.project()
    wanted = set().union(*map(locks.names, [table["dependencies"], *table["optional-dependencies"].values()]))
    assert wanted - locked <= _NOT_LOCKED
    small = {each.name for each in locks.read((REQUIREMENTS / "test.lock").read_text())}
    assert locks.names(table["dependencies"]) - small <= set()


def test_setup_takes_what_the_digests_say_and_compiles_nothing() -> None:
    lines = [
        line for line in (ROOT / "Makefile").read_text().splitlines() if "pip " in line and "install" in line
    ]
    for line in lines:
        if ".lock" in line:
            assert "--require-hashes --only-binary :all:" in line
        else:
            # This project itself, and PyTorch, whose build differs between machines.
            assert "--editable ." in line or "torch.txt" in line
        assert "--no-deps" in line
    assert sum(".lock" in line for line in lines) == 3


def test_the_bill_of_materials(supply: dict[str, ModuleType], tmp_path: Path) -> None:
    sbom, locks = supply["sbom"], supply["locks"]
    path = tmp_path / "dist" / "bill.json"
    sbom.write(path)
    first = path.read_bytes()
    sbom.write(path)
    assert path.read_bytes() == first
    bill = json.loads(first)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    components = {each["bom-ref"]: each for each in bill["components"]}
    beside = {each.name for each in locks.read(locks.TORCH.read_text())}
    assert len(components) == len(bill["components"]) == len(locks.read(locks.LOCK.read_text())) + len(beside)
    scopes = {each["name"]: each["scope"] for each in components.values()}
    assert (scopes["onnxruntime"], scopes["starlette"]) == ("required", "required")
    assert (scopes["scikit-learn"], scopes["torch"], scopes["pytest"]) == ("optional", "optional", "excluded")
    for each in components.values():
        hashed = each.get("externalReferences", [{"hashes": []}])[0]["hashes"]
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest["content"]) for digest in hashed)
        assert hashed or each["name"] in beside
    known = {*components, "servable"}
    for each in bill["dependencies"]:
        assert {each["ref"], *each["dependsOn"]} <= known


def test_findings_are_ignored_for_a_time_and_for_a_reason(supply: dict[str, ModuleType]) -> None:
    audit = supply["audit"]
    told = {"dependencies": [
        {"name": "a", "version": "1", "vulns": [
            {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2"]},
            {"id": "PYSEC-2", "aliases": [], "fix_versions": []},
        ]},
        {"name": "b", "version": "1", "vulns": []},
        {"name": "c", "skip_reason": "not found"},
    ]}  # fmt: skip
    found = audit.findings_of(told)
    assert [(each.package, each.names) for each in found] == [
        ("a 1", ("PYSEC-1", "CVE-1")),
        ("a 1", ("PYSEC-2",)),
    ]
    # What nobody knows was not checked.
    assert (audit.skipped_of(told), audit.checked_of(told)) == (["c"], 2)
    known = audit.ignored({"finding": [{"id": "CVE-1", "reason": "not reached", "until": date(2027, 1, 1)}]})
    assert [each.names for each in audit.open_findings(found, known, date(2027, 1, 1))] == [("PYSEC-2",)]
    assert len(audit.open_findings(found, known, date(2027, 1, 2))) == 2
    for entry in (
        {"id": "CVE-1", "until": date(2027, 1, 1)},
        {"id": "CVE-1", "reason": "x"},
        {"reason": "x"},
    ):
        with pytest.raises(ValueError, match=r"ignored\.toml"):
            audit.ignored({"finding": [entry]})


#: What stands for pip-audit: it answers for the lock and for PyTorch with what is written beside it, and ends
#: as pip-audit does.
_PIP_AUDIT = """
import json, pathlib, sys
here = pathlib.Path(__file__).parent
asked = pathlib.Path(sys.argv[sys.argv.index("--requirement") + 1]).name
told = json.loads((here / "answers.json").read_text())[asked]
print(json.dumps(told) if told else "")
print("Found something" if told else "cannot reach pypi.org", file=sys.stderr)
sys.exit(1)
"""
#: As pip-audit 2.10 writes what PyPI's service answered.
_VULNERABLE = {
    "dependencies": [
        {"name": "jinja2", "version": "2.4.1", "vulns": [
            {"id": "PYSEC-2014-8", "fix_versions": ["2.7.3"], "aliases": ["CVE-2014-1402"],
             "description": "The default configuration for bccache.FileSystemBytecodeCache ..."},
            {"id": "GHSA-462w-v97r-4m45", "fix_versions": [], "aliases": [], "description": "..."},
        ]},
        {"name": "flask", "version": "3.1.2", "vulns": []},
    ],
    "fixes": [],
}  # fmt: skip
_CLEAN = {"dependencies": [{"name": "torch", "version": "2.13.0", "vulns": []}], "fixes": []}
_UNKNOWN = {
    "dependencies": [
        {
            "name": "torch",
            "skip_reason": "Dependency not found on PyPI and could not be audited: torch (2.13)",
        }
    ],
    "fixes": [],
}


@pytest.mark.parametrize(
    ("locked", "beside", "status", "sentences"),
    [
        (
            _VULNERABLE,
            _CLEAN,
            1,
            (
                "jinja2 2.4.1 is vulnerable, known as PYSEC-2014-8, CVE-2014-1402: take 2.7.3, where it is "
                "mended, by make lock.",
                "jinja2 2.4.1 is vulnerable, known as GHSA-462w-v97r-4m45: no version is mended yet.",
                "2 findings, 0 ignored",
            ),
        ),
        # What is known weighs more than what is not.
        (_VULNERABLE, _UNKNOWN, 1, ("2 findings", "1 packages were not checked", "torch")),
        (_CLEAN, _CLEAN, 0, ("0 findings, 0 ignored",)),
        (_CLEAN, _UNKNOWN, 2, ("1 packages were not checked",)),
        (_UNKNOWN, _UNKNOWN, 2, ("Nothing was checked, because the vulnerability service knows none",)),
        (None, _CLEAN, 2, ("Nothing was checked", "did not answer: cannot reach pypi.org")),
    ],
)
def test_what_the_audit_says_and_how_it_ends(
    locked: object, beside: object, status: int, sentences: tuple[str, ...],
    supply: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    audit = supply["audit"]
    (tmp_path / "pip_audit.py").write_text(_PIP_AUDIT)
    (tmp_path / "answers.json").write_text(json.dumps({audit.LOCK.name: locked, audit.TORCH.name: beside}))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert audit.audit(date(2026, 12, 1)) == status
    said = capsys.readouterr().out
    for sentence in sentences:
        assert sentence in said


def test_the_file_of_ignored_findings_is_readable(supply: dict[str, ModuleType]) -> None:
    with supply["audit"].IGNORED.open("rb") as file:
        supply["audit"].ignored(tomllib.load(file))
