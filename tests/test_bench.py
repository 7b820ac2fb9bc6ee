"""The measurements that need no servers run from the command to the page, for every wire format."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: What each kind of rows is measured in, besides plain json.
NATIVE = ("JSON", "JSON lines", "MessagePack", "Arrow", "Parquet", "npy", "bytes, answered with JSON")
BOTH = (
    *(f"native {name}" for name in NATIVE),
    *("OIP JSON", "OIP binary", "OIP gRPC", "TorchServe", "MLflow split", "MLflow records"),
    *("TF Serving rows, KServe V1, Vertex AI", "TF Serving columns", "TF Serving gRPC"),
    *("SageMaker CSV", "SageMaker JSON lines", "SageMaker npy"),
)
TEXT = frozenset({"native JSON", "OpenAI, lists", "OpenAI, base64"})
TABLE = frozenset({*BOTH, "native CSV"})
CARRIED = {
    **dict.fromkeys(("1 row", "32 rows", "10,000 rows"), TABLE),
    "1x3x224x224": frozenset(BOTH),
    **dict.fromkeys(("1 text", "32 texts", "10,000 texts"), TEXT),
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that one short run of the section has filled."""
    folder = tmp_path_factory.mktemp("bench") / "new"
    command = [sys.executable, "-m", "bench", "--only", "formats", "--rounds", "1", "--seconds", "0"]
    done = subprocess.run(
        [*command, "--output", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (folder / "RESULTS.md").read_text(encoding="utf-8") + "\n"
    return folder


def test_every_format_is_measured_for_all_that_it_carries(measured: Path) -> None:
    """The run itself refuses a format that reads other values than were sent."""
    figures = json.loads((measured / "figures.json").read_text())["formats"]["figures"]
    for shape, formats in CARRIED.items():
        found = {each["format"]: each for each in figures if each["shape"] == shape}
        assert {name for name in found if not name.startswith("plain json")} == formats
        for name in formats:
            assert found[name]["read_ratio"] > 0
            assert found[name]["write_ratio"] > 0
            other = found[found[name]["compared"]]
            assert found[name]["write_us"] / other["write_us"] == pytest.approx(found[name]["write_ratio"])
    assert {each["shape"] for each in figures} == set(CARRIED)


def test_the_page_has_a_line_for_every_format_and_a_chart(measured: Path) -> None:
    page = (measured / "RESULTS.md").read_text(encoding="utf-8")
    assert "python -m bench --only formats" in page
    for name in {name for formats in CARRIED.values() for name in formats}:
        tables = 4 if name == "native JSON" else 2
        assert page.count(f"\n| {name} | ") == tables, name
    chart = (measured / "charts" / "formats.svg").read_text(encoding="utf-8")
    assert all(f">{name}</text>" in chart for name in BOTH)
