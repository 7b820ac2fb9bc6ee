import os
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artifact.making import SIGNATURE, fill, manifest
from servable.artifact.manifest import MANIFEST_FILE, Manifest, Proof, Variant
from servable.artifact.package import (
    digest_of,
    open_package,
    read_evaluation,
    read_profile,
    read_signature,
    seal,
    write_json,
)
from servable.errors import (
    ArtifactTampered,
    ArtifactUnreadable,
    ArtifactUnsupported,
    FileMissing,
    StorageFailed,
)
from thoroughness import examples


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    folder.mkdir()
    fill(folder)
    return folder


@pytest.fixture
def sealed(folder: Path) -> tuple[Path, str]:
    seal(folder, manifest())
    return folder, digest_of(folder)


def flip(path: Path, at: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def rewritten(folder: Path, **changes: object) -> None:
    """The manifest with other values, as somebody would forge it."""
    record = msgspec.json.decode((folder / MANIFEST_FILE).read_bytes())
    (folder / MANIFEST_FILE).write_bytes(msgspec.json.encode(record | changes))


def test_what_was_sealed_is_opened(sealed: tuple[Path, str]) -> None:
    folder, digest = sealed
    package = open_package(folder, digest=digest)
    assert package.digest == digest
    assert package.signature == SIGNATURE == read_signature(folder)
    assert package.manifest.chosen.path == "model.onnx"
    assert [entry.path for entry in package.manifest.files] == [
        "evaluation.json",
        "model.onnx",
        "signature.json",
        "variants/fast.onnx",
    ]
    assert read_evaluation(folder) == {"r2": 0.75}
    assert read_profile(folder) is None


def test_sealing_again_gives_the_same_digest(sealed: tuple[Path, str]) -> None:
    folder, digest = sealed
    seal(folder, manifest())
    assert digest_of(folder) == digest


PATHS = st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3}){0,2}\.[0-9]{1,3}", fullmatch=True)


@given(files=st.dictionaries(PATHS, st.binary(max_size=64), max_size=6))
@settings(
    max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_files_survive(tmp_path: Path, files: dict[str, bytes]) -> None:
    folder = tmp_path / "any"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    fill(folder)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    complete = seal(folder, manifest())
    package = open_package(folder, digest=digest_of(folder))
    assert package.manifest == complete
    assert {entry.path: entry.size for entry in complete.files}.items() >= {
        name: len(data) for name, data in files.items()
    }.items()


@pytest.mark.parametrize("name", ["evaluation.json", "model.onnx", "signature.json", "variants/fast.onnx"])
@pytest.mark.parametrize("at", [0, -1])
def test_a_flipped_bit_is_found(sealed: tuple[Path, str], name: str, at: int) -> None:
    folder, digest = sealed
    flip(folder / name, at)
    with pytest.raises(ArtifactTampered, match=name):
        open_package(folder, digest=digest)


def test_every_byte_of_the_manifest_counts(sealed: tuple[Path, str]) -> None:
    folder, digest = sealed
    whole = (folder / MANIFEST_FILE).read_bytes()
    for at in range(0, len(whole), 7):
        (folder / MANIFEST_FILE).write_bytes(whole)
        flip(folder / MANIFEST_FILE, at)
        with pytest.raises(ArtifactTampered, match="manifest"):
            open_package(folder, digest=digest)


def added(folder: Path) -> None:
    (folder / "variants" / "more.txt").write_text("x")


def removed(folder: Path) -> None:
    (folder / "evaluation.json").unlink()


def linked(folder: Path) -> None:
    (folder / "model.onnx").rename(folder.parent / "elsewhere")
    (folder / "model.onnx").symlink_to(folder.parent / "elsewhere")


def folder_linked(folder: Path) -> None:
    (folder / "variants").rename(folder.parent / "elsewhere")
    (folder / "variants").symlink_to(folder.parent / "elsewhere")


def swapped(folder: Path) -> None:
    (folder / "model.onnx").rename(folder / "x")
    (folder / "variants/fast.onnx").rename(folder / "model.onnx")
    (folder / "x").rename(folder / "variants/fast.onnx")


def cut(folder: Path) -> None:
    os.truncate(folder / "model.onnx", 3)


def piped(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")


@pytest.mark.parametrize("change", [added, removed, linked, folder_linked, swapped, cut, piped])
def test_a_changed_folder_is_refused(sealed: tuple[Path, str], change: object) -> None:
    folder, digest = sealed
    change(folder)  # type: ignore[operator] # one of the functions above
    with pytest.raises(ArtifactTampered):
        open_package(folder, digest=digest)


@pytest.mark.parametrize(
    "path", ["../outside", "/etc/passwd", "a/../../b", "", ".", "a//b", "a/./b", "manifest.json", "a\0b"]
)
def test_no_listed_path_leaves_the_package(sealed: tuple[Path, str], path: str) -> None:
    folder, _ = sealed
    rewritten(folder, files=[{"path": path, "size": 1, "sha256": "0" * 64}])
    with pytest.raises(ArtifactTampered):
        open_package(folder)


def test_a_file_listed_twice_is_refused(sealed: tuple[Path, str]) -> None:
    folder, _ = sealed
    files = msgspec.to_builtins(open_package(folder).manifest.files)
    rewritten(folder, files=[*files, files[0]])
    with pytest.raises(ArtifactTampered, match="twice"):
        open_package(folder)


def test_a_newer_format_is_refused_and_not_guessed_at(sealed: tuple[Path, str]) -> None:
    folder, _ = sealed
    rewritten(folder, format=99, variants="something else")
    with pytest.raises(ArtifactUnsupported, match="newer"):
        open_package(folder)
    rewritten(folder, format=0)
    with pytest.raises(ArtifactUnsupported, match="again"):
        open_package(folder)


@pytest.mark.parametrize("value", [None, "1", True, 1.5])
def test_the_format_number_must_be_one(sealed: tuple[Path, str], value: object) -> None:
    rewritten(sealed[0], format=value)
    with pytest.raises(ArtifactUnreadable, match="format"):
        open_package(sealed[0])


def test_the_format_number_is_always_written(sealed: tuple[Path, str]) -> None:
    assert msgspec.json.decode((sealed[0] / MANIFEST_FILE).read_bytes())["format"] == 1


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"format":1}'])
def test_a_manifest_that_is_none(sealed: tuple[Path, str], data: bytes) -> None:
    (sealed[0] / MANIFEST_FILE).write_bytes(data)
    with pytest.raises(ArtifactUnreadable):
        open_package(sealed[0])


def test_folders_that_are_no_package(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        open_package(tmp_path / "nothing")
    with pytest.raises(ArtifactUnreadable):
        open_package(tmp_path)
    with pytest.raises(ArtifactUnreadable):
        digest_of(tmp_path)


def test_an_incomplete_folder_is_not_sealed(folder: Path) -> None:
    with pytest.raises(ArtifactUnreadable, match=r"slow\.onnx"):
        seal(folder, manifest(variants=(Variant(name="trained", format="onnx", path="slow.onnx"),)))
    with pytest.raises(ArtifactUnreadable, match="fastest"):
        seal(folder, manifest(serving="fastest"))
    (folder / "signature.json").write_text("{}")
    with pytest.raises(ArtifactUnreadable, match="signature"):
        seal(folder, manifest())
    (folder / "signature.json").unlink()
    with pytest.raises(ArtifactUnreadable, match="signature"):
        seal(folder, manifest())
    (folder / "link").symlink_to("model.onnx")
    with pytest.raises(ArtifactUnreadable, match="link"):
        seal(folder, manifest())
    assert not (folder / MANIFEST_FILE).exists()


def test_sealing_nothing_is_a_storage_failure(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="sealing"):
        seal(tmp_path / "nothing", manifest())


def test_values_that_json_has_no_word_for(folder: Path) -> None:
    proof = Proof(equal=False, rows=3, worst_difference=float("inf"))
    head: Manifest = manifest(
        metrics={"r2": 0.5, "auc": float("nan"), "top": float("inf")},
        variants=(Variant(name="trained", format="onnx", path="model.onnx", proof=proof),),
        recipe={"depth": np.int64(3), "grid": np.arange(2), "file": Path("a.csv")},
    )
    seal(folder, head)
    opened = open_package(folder).manifest
    assert opened.metrics == {"r2": 0.5}
    assert opened.chosen.proof is not None
    assert opened.chosen.proof.worst_difference > 1e300
    assert opened.recipe == {"depth": 3, "grid": [0, 1], "file": "a.csv"}
    with pytest.raises(NotImplementedError):
        write_json(folder, "evaluation.json", {"x": object()})


def test_a_variant_may_be_a_folder(folder: Path) -> None:
    seal(folder, manifest(variants=(Variant(name="trained", format="tf", path="variants"),)))
    assert open_package(folder).manifest.chosen.path == "variants"


def test_a_damaged_evaluation(folder: Path) -> None:
    (folder / "evaluation.json").write_text("{")
    with pytest.raises(ArtifactUnreadable, match="evaluation"):
        read_evaluation(folder)
