import os
import subprocess
import sys
from pathlib import Path

import pytest

from artifact.making import fill, manifest
from registry.adding import add
from servable.errors import (
    ArtifactTampered,
    ArtifactUnreadable,
    DependencyMissing,
    FileMissing,
    InputError,
    StorageFailed,
)
from servable.registry.home import Home, open_home, publish


def entries(folder: Path) -> set[str]:
    """Everything in the folder except the database's own files, which the database may make and remove."""
    return {
        str(path.relative_to(folder)) for path in folder.rglob("*") if not path.name.startswith("registry.db")
    }


def test_a_published_version_is_opened(opened: Home) -> None:
    record = add(opened)
    package = opened.package(record)
    assert package.digest == record.package
    assert package.folder == opened.path / "packages" / record.package
    assert opened.package(opened.deployments.deploy("churn", 1)) == package
    assert list((opened.path / "staging").iterdir()) == []
    assert str(opened.path) in repr(opened)


def test_publishing_an_equal_package_keeps_one_copy(opened: Home) -> None:
    first, second = add(opened), add(opened)
    assert (first.version, second.version) == (1, 2)
    assert first.package == second.package
    assert opened.packages.digests() == {first.package}


def test_a_failure_leaves_the_home_as_it_was(opened: Home) -> None:
    add(opened)
    before, token = entries(opened.path), opened.change_token()

    def fails(model: str, filled: bool) -> None:
        with opened.packages.staging() as folder:
            if filled:
                fill(folder, b"another")
            publish(opened, folder, manifest(model))

    with pytest.raises(InputError):
        fails("No Name", True)
    with pytest.raises(ArtifactUnreadable):
        fails("churn", False)
    assert entries(opened.path) == before
    assert opened.change_token() == token


def test_a_failure_to_register_takes_the_package_back(opened: Home) -> None:
    add(opened)
    before = entries(opened.path)
    with opened.state.writing() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON versions BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    with pytest.raises(StorageFailed, match="refused"):
        add(opened, content=b"another")
    assert entries(opened.path) == before
    # A package that was there before stays.
    with pytest.raises(StorageFailed, match="refused"):
        add(opened)
    assert entries(opened.path) == before


def test_tampering_is_found_through_the_home(opened: Home) -> None:
    first, second = add(opened, content=b"1"), add(opened, content=b"2")
    folder = opened.packages.folder(first.package)
    (folder / "model.onnx").write_bytes(b"x")
    with pytest.raises(ArtifactTampered):
        opened.package(first)
    # An older package, sealed and whole, in the place of another.
    other = opened.packages.folder(second.package)
    other.rename(opened.path / "x")
    folder.rename(other)
    with pytest.raises(ArtifactTampered):
        opened.package(second)
    with pytest.raises(ArtifactUnreadable, match="publish"):
        opened.package(first)


def test_sweeping_clears_what_nobody_names(opened: Home) -> None:
    record = add(opened)
    with opened.packages.staging() as folder:
        fill(folder, b"orphan")
        (folder / "manifest.json").write_text("{}")
        orphan, new = opened.packages.publish(folder)
    assert new
    old, young = opened.path / "staging" / "old", opened.path / "staging" / "young"
    for path in (old, young):
        path.mkdir(parents=True)
    os.utime(old, (0, 0))
    opened.sweep()
    assert opened.packages.digests() == {record.package}
    assert orphan not in opened.packages.digests()
    assert not old.exists()
    assert young.exists()
    opened.packages.withdraw("nothing")
    assert opened.packages.sweep(older_than=-60) == 1


def test_what_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageFailed, match="file"):
        open_home(tmp_path / "file")
    with pytest.raises(StorageFailed, match="file"):
        open_home(tmp_path / "file", create=False)
    with pytest.raises(StorageFailed, match="file is in the way"):
        open_home(tmp_path / "file" / "home")
    with pytest.raises(FileMissing, match="no home"):
        open_home(tmp_path / "nothing", create=False)
    with pytest.raises(FileMissing, match="is no home"):
        open_home(tmp_path, create=False)
    assert not (tmp_path / "registry.db").exists()
    open_home(str(tmp_path / "a" / "b")).close()
    open_home(tmp_path / "a" / "b", create=False).close()


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    code = (
        "import os, sys\n"
        "from servable.errors import StorageFailed\n"
        "from servable.registry.home import open_home\n"
        # Nothing is forbidden to root, so root does this as nobody.
        "os.geteuid() or os.setuid(65534)\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        open_home(path)\n"
        "    except StorageFailed as error:\n"
        "        print(error.message)\n"
    )
    command = [sys.executable, "-c", code, tmp_path, tmp_path / "home"]
    done = subprocess.run(command, check=False, capture_output=True)
    said = done.stdout.decode().splitlines()
    assert len(said) == 2, done.stderr
    assert all("owner and mode" in line for line in said)


def test_two_machines_share_a_blob_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    shared = f"file://{tmp_path / 'shared'}"
    with open_home(tmp_path / "one", database_url=url, blob_url=shared) as one:
        record = add(one)
    with open_home(tmp_path / "two", database_url=url, blob_url=shared, create=True) as two:
        assert two.package(two.models.resolve("churn")).digest == record.package
        assert two.packages.digests() == {record.package}
        assert add(two).version == 2
        with pytest.raises(ArtifactUnreadable, match="neither"):
            two.packages.folder("0" * 64)
    (tmp_path / "shared" / record.package / "model.onnx").write_bytes(b"x")
    with (
        open_home(tmp_path / "three", database_url=url, blob_url=shared) as three,
        pytest.raises(ArtifactTampered),
    ):
        three.package(record)
    assert three.packages.digests() == frozenset()


def test_blob_stores_that_cannot_be_used(tmp_path: Path) -> None:
    with (
        open_home(tmp_path / "home", blob_url="nothing://x") as home,
        pytest.raises(StorageFailed, match="blob store"),
    ):
        add(home)
    with (
        open_home(tmp_path / "home", blob_url="s3://x") as home,
        pytest.raises(DependencyMissing, match="s3"),
    ):
        add(home)
    assert home.packages.digests() == frozenset()
