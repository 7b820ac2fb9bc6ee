"""What may be served by its signature, and in which order versions may follow each other."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.adding import add
from servable.artifact.bundles import make_keys, read_private_key
from servable.artifact.releases import Release, Return, sign_release, sign_return
from servable.clock import SystemClock
from servable.errors import ServableError, SignatureRefused, StorageFailed
from servable.registry.home import open_home
from servable.registry.records import VersionRecord
from servable.registry.signatures import Served, SignatureStore
from servable.registry.vetting import noted, returns, vetting_of
from servable.serving.desired import RegistrySource
from servable.settings import ServerSettings


class Place:
    """A home with a key, and a server's view of it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.private = folder / "release.pem"
        self.public = make_keys(self.private)
        self.store = SignatureStore(self.home)
        self.settings = ServerSettings(
            home=str(self.home), signatures="require", trusted_keys=(str(self.public),)
        )
        with open_home(self.home) as place:
            self.records = {number: add(place, content=b"%d" % number) for number in (1, 2, 3)}

    def sign(self, version: int, key: Path | None = None) -> VersionRecord:
        record = self.records[version]
        with open_home(self.home) as place:
            package = place.package(record)
        release = Release("churn", version)
        bundle = sign_release(
            read_private_key(key or self.private), release, package.manifest, package.digest
        )
        self.store.keep_release(package.digest, release, bundle)
        return record

    def allow(self, version: int, key: Path | None = None, at: float | None = None) -> None:
        now = SystemClock().now().timestamp() if at is None else at
        allowed = Return("churn", version, self.records[version].package, now)
        self.store.keep_rollback("churn", sign_return(read_private_key(key or self.private), allowed))

    def deploy(self, version: int) -> None:
        """Write the desired state, as anybody can who reaches the database."""
        with open_home(self.home) as place:
            place.deployments.deploy("churn", version)

    def source(self, policy: str = "require") -> RegistrySource:
        settings = ServerSettings(home=str(self.home), signatures=policy, trusted_keys=(str(self.public),))
        return RegistrySource(self.home, vetting=vetting_of(settings))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def served(source: RegistrySource) -> int | str:
    """The version that a server serves then, or why it serves none."""
    (wanted,) = source.wanted()
    try:
        return source.open(wanted).manifest.model and wanted.version
    except ServableError as error:
        return error.message


def test_a_version_without_a_signature_is_not_served(place: Place) -> None:
    place.deploy(1)
    source = place.source()
    assert "is not signed" in str(served(source))
    place.sign(1)
    assert served(source) == 1
    source.close()


def test_an_older_version_is_not_served_again_because_somebody_writes_it_down(place: Place) -> None:
    for version in (1, 2, 3):
        place.sign(version)
    source = place.source()
    for version in (1, 3):
        place.deploy(version)
        assert served(source) == version
    place.deploy(2)
    # The server stays with what it had, whether or not that is loaded still.
    assert served(source) == 3
    # One that starts now has nothing to stay with.
    again = place.source()
    assert "older than version 3" in str(served(again))
    assert "servable sign churn:2 --key KEY --rollback" in str(served(again))
    source.close()
    again.close()


def test_a_signed_rollback_is_followed_and_counts_once(place: Place) -> None:
    for version in (1, 2, 3):
        place.sign(version)
    source = place.source()
    for version in (2, 3):
        place.deploy(version)
        assert served(source) == version
    place.allow(2)
    place.deploy(2)
    assert served(source) == 2
    again = place.source()
    assert served(again) == 2
    place.deploy(1)
    assert served(source) == 2
    place.deploy(3)
    assert served(source) == 3
    # The same rollback once more: it was signed before the newest version was taken up again.
    place.deploy(2)
    assert served(source) == 3
    source.close()
    again.close()


def test_a_rollback_by_anybody_else_is_none(place: Place, tmp_path: Path) -> None:
    for version in (1, 2):
        place.sign(version)
    source = place.source()
    place.deploy(2)
    assert served(source) == 2
    make_keys(tmp_path / "foreign.pem")
    place.allow(1, tmp_path / "foreign.pem")
    place.deploy(1)
    assert served(source) == 2
    # A signature of the package is no rollback.
    bundle = place.store.release(place.records[1].package, Release("churn", 1))
    assert bundle is not None
    place.store.keep_rollback("churn", bundle)
    assert served(source) == 2
    # Nor is one of another package.
    place.records[1] = place.records[3]
    place.allow(1)
    assert served(source) == 2
    source.close()


def test_a_package_does_not_stand_in_for_another_version(place: Place) -> None:
    place.sign(1)
    old = place.records[1].package
    with open_home(place.home) as home, home.state.writing() as connection:
        connection.exec_driver_sql(f"UPDATE versions SET package = '{old}' WHERE version = 3")
    place.deploy(3)
    source = place.source()
    assert "is not signed" in str(served(source))
    bundle = place.store.release(old, Release("churn", 1))
    assert bundle is not None
    place.store.keep_release(old, Release("churn", 3), bundle)
    assert "was signed as churn:1" in str(served(source))
    source.close()


@pytest.mark.parametrize("how", ["flip", "add", "remove", "swap", "manifest"])
def test_a_package_that_was_changed_is_not_served(place: Place, how: str) -> None:
    place.sign(1)
    place.deploy(1)
    folder = place.home / "packages" / place.records[1].package
    model, fast = folder / "model.onnx", folder / "variants" / "fast.onnx"
    if how == "flip":
        model.write_bytes(bytes([model.read_bytes()[0] ^ 1]))
    elif how == "add":
        (folder / "more.pkl").write_bytes(b"x")
    elif how == "remove":
        fast.unlink()
    elif how == "swap":
        one, two = model.read_bytes(), fast.read_bytes()
        model.write_bytes(two)
        fast.write_bytes(one)
    else:
        text = (folder / "manifest.json").read_text()
        (folder / "manifest.json").write_text(text.replace("churn", "other"))
    source = place.source()
    assert isinstance(served(source), str)
    source.close()


def test_with_the_policies_off_and_warn_everything_is_served(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.deploy(1)
    off, warn = place.source("off"), place.source("warn")
    assert served(off) == 1
    assert "signature" not in caplog.text
    assert served(warn) == 1
    assert "the signature is not in order" in caplog.text
    off.close()
    warn.close()


def test_a_damaged_memory_serves_nothing_old(place: Place) -> None:
    place.sign(1)
    place.deploy(1)
    source = place.source()
    assert served(source) == 1
    (place.home / "signatures" / "served" / "churn.json").write_text("{")
    with pytest.raises(StorageFailed, match="damaged"):
        source.wanted()
    source.close()


VERSIONS = st.integers(1, 5)


@given(st.lists(st.tuples(VERSIONS, st.booleans()), max_size=20))
def test_what_is_remembered_never_goes_back(steps: list[tuple[int, bool]]) -> None:
    before: Served | None = None
    for now, (version, _) in enumerate(steps):
        after = noted(before, version, float(now))
        assert after.serving == version
        assert after.newest == max(version, before.newest if before else 0)
        assert before is None or after.since >= before.since
        if version == after.newest and (before is None or before.serving != version):
            assert after.since == now
        before = after


@given(VERSIONS, VERSIONS, st.floats(0, 10), st.floats(0, 10))
def test_a_rollback_is_of_one_version_and_later(asked: int, said: int, at: float, since: float) -> None:
    allowed = Return("churn", said, "a", at)
    served_before = Served(6, 6, since)
    assert returns(allowed, Release("churn", asked), "a", served_before) == (asked == said and at > since)
    assert not returns(allowed, Release("other", asked), "a", served_before)
    assert not returns(allowed, Release("churn", asked), "b", served_before)


def test_times_are_in_seconds_since_1970() -> None:
    assert datetime.fromtimestamp(SystemClock().now().timestamp(), UTC).year >= 2026


def test_a_signature_is_found_on_another_machine(tmp_path: Path, place: Place) -> None:
    blob = f"file://{tmp_path / 'blob'}"
    shared, other = SignatureStore(place.home, blob), SignatureStore(tmp_path / "other", blob)
    shared.keep_release("d", Release("churn", 1), b"one")
    assert other.release("d", Release("churn", 1)) == b"one"
    shared.keep_release("d", Release("churn", 1), b"two")
    assert other.release("d", Release("churn", 1)) == b"two"
    assert other.release("d", Release("churn", 2)) is None
    shared.keep_rollback("churn", b"back")
    assert other.rollback("churn") == b"back"


def test_refusals_are_errors_of_artifacts() -> None:
    assert SignatureRefused("x").code == "signature_refused"
