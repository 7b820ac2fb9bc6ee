"""Signatures of versions: made and read here, and by the library whose form they have."""

import subprocess
from pathlib import Path

import pytest

from artifact import making
from servable.artifact.bundles import make_keys, read_private_key, read_trusted_keys
from servable.artifact.releases import Release, check_release, sign_release
from servable.errors import (
    ArtifactTampered,
    FileMissing,
    SettingInvalid,
    SignatureRefused,
)
from servable.registry.home import Home, open_home, publish
from servable.registry.signatures import SignatureStore
from servable.security.audit_chain import content_of
from servable.workflows.deploy import deploy, rollback
from servable.workflows.signers import signer_of
from servable.workflows.signing import sign


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A private key, and its public one."""
    private = tmp_path / "release.pem"
    return private, make_keys(private)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Three versions of a model."""
    with open_home(tmp_path / "home") as place:
        for number in range(3):
            add(place, b"version %d" % number)
    return tmp_path / "home"


def add(place: Home, content: bytes) -> None:
    with place.packages.staging() as folder:
        making.fill(folder, content)
        publish(place, folder, making.manifest())


def bundle_path(home: Path, version: int) -> Path:
    found = list((home / "signatures").glob(f"*/churn.{version}.json"))
    assert len(found) == 1
    return found[0]


def test_model_signing_verifies_what_was_signed_here(home: Path, keys: tuple[Path, Path]) -> None:
    verifying = pytest.importorskip("model_signing.verifying")
    outcome = sign("churn:2", key=keys[0], home=home)
    package = home / "packages" / outcome.package
    config = verifying.Config().use_elliptic_key_verifier(public_key=keys[1])
    config.verify(package, bundle_path(home, 2))
    with (package / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"model\.onnx"):
        config.verify(package, bundle_path(home, 2))


def test_what_model_signing_signed_is_verified_here(
    home: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    signing = pytest.importorskip("model_signing.signing")
    with open_home(home) as place:
        package = place.package(place.models.resolve("churn:1"))
    signing.Config().use_elliptic_key_signer(private_key=keys[0]).sign(package.folder, tmp_path / "sig")
    trusted = read_trusted_keys((str(keys[1]),))
    # Its signature, its form and its files are right; it lacks only what such tools do not say.
    with pytest.raises(SignatureRefused, match="does not say which version"):
        check_release(
            (tmp_path / "sig").read_bytes(), Release("churn", 1), package.manifest, package.digest, trusted
        )
    with open_home(home) as place:
        other = place.package(place.models.resolve("churn:2"))
    with pytest.raises(SignatureRefused, match="other files"):
        check_release(
            (tmp_path / "sig").read_bytes(), Release("churn", 1), other.manifest, other.digest, trusted
        )


def test_a_key_is_made_and_the_package_stays_as_it_is(home: Path, tmp_path: Path) -> None:
    with open_home(home) as place:
        before = place.models.resolve("churn:2")
    outcome = sign("churn:2", key=tmp_path / "new.pem", new_key=True, home=home)
    assert outcome.package == before.package
    assert (tmp_path / "new.pem").stat().st_mode & 0o777 == 0o600
    assert Path(outcome.public_key).read_text().startswith("-----BEGIN PUBLIC KEY-----")
    with open_home(home) as place:
        assert place.models.resolve("churn:2") == before
        place.package(before)
    with pytest.raises(SettingInvalid, match="exists"):
        sign("churn:2", key=tmp_path / "new.pem", new_key=True, home=home)


def test_it_is_recorded_who_signed_what_and_allowed_its_return(home: Path, keys: tuple[Path, Path]) -> None:
    outcome = sign("churn:2", key=keys[0], rollback=True, home=home)
    with open_home(home) as place:
        records = [content_of(row) or {} for row in place.audit.rows()][-2:]
    assert [record["what"] for record in records] == ["version.sign", "version.allow_return"]
    for record in records:
        assert record["details"] == {
            "model": "churn", "version": 2, "package": outcome.package, "signer": outcome.key
        }  # fmt: skip


def test_the_documented_line_makes_a_key_that_signs(home: Path, tmp_path: Path) -> None:
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    line = ["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", str(private)]
    subprocess.run(line, check=True, capture_output=True)
    subprocess.run(
        ["openssl", "ec", "-in", str(private), "-pubout", "-out", str(public)],
        check=True,
        capture_output=True,
    )
    assert sign("churn", key=private, home=home).key == read_trusted_keys((str(public),))[0].hint


@pytest.mark.parametrize(
    "line",
    [
        ["genpkey", "-algorithm", "ed25519"],
        ["ecparam", "-genkey", "-name", "secp256k1", "-noout"],
        ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes256", "-pass", "pass:x"],
    ],
)
def test_other_keys_are_refused(home: Path, tmp_path: Path, line: list[str]) -> None:
    private = tmp_path / "other.pem"
    subprocess.run(["openssl", *line, "-out", str(private)], check=True, capture_output=True)
    with pytest.raises(SettingInvalid):
        sign("churn", key=private, home=home)
    assert not (home / "signatures").exists()


def test_a_package_that_was_changed_is_not_signed(home: Path, keys: tuple[Path, Path]) -> None:
    with open_home(home) as place:
        folder = place.packages.folder(place.models.resolve("churn:1").package)
    (folder / "model.onnx").write_bytes(b"another")
    with pytest.raises(ArtifactTampered):
        sign("churn:1", key=keys[0], home=home)
    with pytest.raises(FileMissing):
        sign("churn:2", key=folder / "nothing.pem", home=home)


def test_every_byte_of_a_signature_counts(home: Path, keys: tuple[Path, Path]) -> None:
    trusted = read_trusted_keys((str(keys[1]),))
    with open_home(home) as place:
        package = place.package(place.models.resolve("churn:1"))
    whole = sign_release(read_private_key(keys[0]), Release("churn", 1), package.manifest, package.digest)
    assert check_release(whole, Release("churn", 1), package.manifest, package.digest, trusted) == "release"
    refused = 0
    for place_of in range(0, len(whole), 7):
        changed = whole[:place_of] + bytes([whole[place_of] ^ 1]) + whole[place_of + 1 :]
        try:
            check_release(changed, Release("churn", 1), package.manifest, package.digest, trusted)
        except SignatureRefused:
            refused += 1
        else:
            # The key's identifier in the envelope and the log's entries are not signed; nobody reads them.
            assert (
                b"keyid" in whole[place_of - 12 : place_of + 12]
                or b"tlog" in whole[place_of - 12 : place_of + 12]
            )
    assert refused > len(whole) // 8


def required(monkeypatch: pytest.MonkeyPatch, keys: tuple[Path, Path], policy: str = "require") -> None:
    monkeypatch.setenv("SERVABLE_SIGNATURES", policy)
    monkeypatch.setenv("SERVABLE_TRUSTED_KEYS", str(keys[1]))


def test_only_signed_versions_are_deployed(
    home: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    required(monkeypatch, keys)
    with pytest.raises(SignatureRefused, match="servable sign churn:1 --key"):
        deploy("churn:1", home=home)
    sign("churn:1", key=keys[0], home=home)
    assert deploy("churn:1", home=home).version == 1
    with open_home(home) as place:
        digest = place.models.resolve("churn:1").package
        bundle = SignatureStore(home).release(digest, Release("churn", 1))
        assert bundle is not None
        # The signature of one version does not do for another one.
        other = place.models.resolve("churn:2").package
        SignatureStore(home).keep_release(other, Release("churn", 2), bundle)
    with pytest.raises(SignatureRefused, match="other files"):
        deploy("churn:2", home=home)


def test_a_key_that_nobody_trusts_does_not_count(
    home: Path, keys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    required(monkeypatch, keys)
    sign("churn:1", key=tmp_path / "foreign.pem", new_key=True, home=home)
    with pytest.raises(SignatureRefused, match="not among trusted_keys"):
        deploy("churn:1", home=home)
    monkeypatch.delenv("SERVABLE_TRUSTED_KEYS")
    with pytest.raises(SettingInvalid, match="no key is trusted"):
        deploy("churn:1", home=home)


def test_with_the_policy_warn_everything_is_deployed(
    home: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    required(monkeypatch, keys, "warn")
    assert deploy("churn:1", home=home).version == 1
    assert "the signature is not in order" in caplog.text
    assert rollback_target(home) is None


def rollback_target(home: Path) -> int | None:
    with open_home(home) as place:
        record = place.deployments.get("churn")
    return record.previous[-1] if record is not None and record.previous else None


def test_a_rollback_needs_no_signature_before_the_newer_version_was_served(
    home: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    required(monkeypatch, keys)
    for version in (1, 2):
        sign(f"churn:{version}", key=keys[0], home=home)
        deploy(f"churn:{version}", home=home)
    assert rollback("churn", home=home).version == 1


def test_what_is_deployed_at_once_is_signed_with_a_trusted_key(
    keys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    required(monkeypatch, keys)
    with pytest.raises(SignatureRefused, match="--sign-key"):
        signer_of(None, tmp_path, deploy=True)
    make_keys(tmp_path / "foreign.pem")
    with pytest.raises(SignatureRefused, match="not among trusted_keys"):
        signer_of(tmp_path / "foreign.pem", tmp_path, deploy=True)
    # What is not deployed may be signed later, and by somebody else.
    with open_home(tmp_path / "home") as place:
        add(place, b"one")
        record = place.models.resolve("churn")
        signer_of(None, tmp_path, deploy=False).sign(place, record)
        assert not (tmp_path / "home" / "signatures").exists()
        signer_of(keys[0], tmp_path, deploy=True).sign(place, record)
    assert deploy("churn", home=tmp_path / "home").version == 1
