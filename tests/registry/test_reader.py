"""Desired state as a server reads it: the same through the standard library and through SQLAlchemy."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.adding import add
from servable.errors import FileMissing, ModelNotFound, StorageFailed, VersionNotFound
from servable.registry.home import Home
from servable.registry.reader import HomeReader, Reader, SqliteReader, open_reader
from servable.registry.records import DATABASE, WHOLE, Share, Traffic
from servable.registry.references import parse_reference


@pytest.fixture(params=["sqlite3", "sqlalchemy"])
def reader(request: pytest.FixtureRequest, opened: Home) -> Iterator[Reader]:
    """Both readers over the home of the test."""
    url = "" if request.param == "sqlite3" else f"sqlite:///{opened.path / DATABASE}"
    found = open_reader(opened.path, database_url=url)
    assert isinstance(found, SqliteReader if request.param == "sqlite3" else HomeReader)
    yield found
    found.close()


def test_deployments_defaults_aliases_and_the_token(reader: Reader, opened: Home) -> None:
    assert reader.deployments() == ()
    before = reader.token()
    first, second = add(opened, "a"), add(opened, "b")
    opened.deployments.deploy("b", 1)
    assert reader.token() > before
    (only,) = reader.deployments()
    assert only == ("b", 1, second.package, True, {}, WHOLE, {})
    opened.deployments.deploy("b", 1, policy={"executor": "thread", "pinned": True})
    (only,) = reader.deployments()
    assert only.policy == {"executor": "thread", "pinned": True}
    opened.deployments.deploy("a", 1)
    opened.deployments.set_default(None)
    assert [(row.model, row.package, row.default) for row in reader.deployments()] == [
        ("a", first.package, False),
        ("b", second.package, False),
    ]
    opened.models.set_alias("a", "champion", 1)
    assert reader.aliases().get("a") == {"champion": 1}
    opened.deployments.undeploy("b")
    assert [row.model for row in reader.deployments()] == ["a"]


def test_a_division_comes_with_the_packages_of_its_versions(reader: Reader, opened: Home) -> None:
    first, second, third = (add(opened, "a", content=content) for content in (b"one", b"two", b"three"))
    add(opened, "a", content=b"four")
    opened.deployments.deploy("a", 1)
    shares = (Share(version=1, weight=95), Share(version=2, weight=5))
    divided = Traffic(shares=shares, shadow=3, mirrored=0.25)
    opened.deployments.divide("a", divided)
    (only,) = reader.deployments()
    assert (only.version, only.package, only.traffic) == (1, first.package, divided)
    assert only.packages == {1: first.package, 2: second.package, 3: third.package}
    opened.deployments.rollback("a")
    (only,) = reader.deployments()
    assert (only.version, only.traffic, only.packages) == (1, WHOLE, {})


def test_references_mean_what_they_mean_elsewhere(reader: Reader, opened: Home) -> None:
    add(opened, "a", content=b"one")
    newest = add(opened, "a", content=b"two")
    opened.models.set_alias("a", "champion", 1)
    for text, version in (("a", 2), ("a:1", 1), ("a@champion", 1), ("a@latest", 2)):
        assert reader.resolve(parse_reference(text)).version == version
    assert reader.resolve(parse_reference("a")).package == newest.package
    with pytest.raises(VersionNotFound, match="its newest is 2"):
        reader.resolve(parse_reference("a:9"))
    with pytest.raises(VersionNotFound, match="no alias"):
        reader.resolve(parse_reference("a@best"))
    with pytest.raises(ModelNotFound):
        reader.resolve(parse_reference("b"))


def test_a_home_is_made_or_missed(home: Path) -> None:
    with pytest.raises(FileMissing):
        open_reader(home, create=False)
    made = open_reader(home)
    assert made.deployments() == ()
    made.close()


def test_a_damaged_file_is_said(home: Path) -> None:
    home.mkdir()
    (home / DATABASE).write_bytes(b"this is no database" * 100)
    with pytest.raises(StorageFailed, match="damaged"):
        open_reader(home)
