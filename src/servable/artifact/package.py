"""A package on disk: sealed once with the digest of every file, verified whole each time it is opened.

``seal`` completes a folder that somebody filled; ``open_package`` trusts nothing in the folder: the
manifest must have the digest that the caller knows, every file must be listed with its size and
SHA-256, and there is nothing else. Only regular files and folders live in a package.

All functions block; they touch only the folder that they are given and are safe to call from threads.
"""

import hashlib
import math
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import msgspec
import numpy as np

from servable.artifact import profile
from servable.artifact import signature as signatures
from servable.artifact.files import storage_errors, sync_file, sync_folder, write_file
from servable.artifact.manifest import (
    EVALUATION_FILE,
    FORMAT,
    MANIFEST_FILE,
    PROFILE_FILE,
    SIGNATURE_FILE,
    FileEntry,
    Manifest,
    Variant,
)
from servable.artifact.profile import Profile
from servable.artifact.sample import read_sample as read_sample
from servable.artifact.sample import write_sample as write_sample
from servable.artifact.signature import Signature
from servable.errors import ArtifactTampered, ArtifactUnreadable, ArtifactUnsupported, FileMissing

#: A manifest or signature beyond this many bytes is not one.
LARGEST_RECORD = 64 * 1024 * 1024


class Package(msgspec.Struct, frozen=True):
    """An opened package: its files were verified when it was made; safe to share.

    Attributes:
        folder: where it lies.
        manifest: its head.
        signature: what its model takes and gives.
        digest: SHA-256 of ``manifest.json`` in hex, the package's identity.
    """

    folder: Path
    manifest: Manifest
    signature: Signature
    digest: str


class Outline(NamedTuple):
    """What a package says about itself; nothing of it was verified."""

    manifest: Manifest
    signature: Signature


def _read_format_1(data: bytes) -> Manifest:
    return msgspec.json.decode(data, type=Manifest)


#: How a manifest of each format number is read; every reader returns today's record.
READERS: dict[int, Callable[[bytes], Manifest]] = {1: _read_format_1}


def seal(folder: Path, manifest: Manifest) -> Manifest:
    """Complete a package: list every file with its digest, write ``manifest.json``, make all of it durable.

    Args:
        folder: holds every file of the package; a ``manifest.json`` that lies there is replaced.
        manifest: the head without ``files``. Metrics that are not finite are left out, because JSON
            has no word for them.

    Returns:
        The manifest as it was written.

    Raises:
        ArtifactUnreadable: the folder is no complete package (no signature, a variant without its file,
            a link), so that nobody could open it.
        StorageFull: no space left.
        StorageFailed: the storage failed.
    """
    with storage_errors("sealing the package"):
        paths, folders, strange = _scan(folder)
        if strange:
            raise ArtifactUnreadable(
                f"A package holds only regular files, and {strange[0]} is none; copy the file itself."
            )
        paths.discard(MANIFEST_FILE)
        entries = []
        for path in sorted(paths):
            sync_file(folder / path)
            entries.append(_entry(folder, path))
        complete = msgspec.structs.replace(_finite(manifest), format=FORMAT, files=tuple(entries))
        data = _encode(complete)
        complete = _decode(data)
        _check_parts(folder, complete)
        write_file(folder / MANIFEST_FILE, data)
        for name in sorted(folders, reverse=True):
            sync_folder(folder / name)
        sync_folder(folder)
    return complete


def digest_of(folder: Path) -> str:
    """The identity of a sealed package: SHA-256 of ``manifest.json`` in hex.

    Raises:
        ArtifactUnreadable: the folder has no manifest.
    """
    return hashlib.sha256(_read_record(folder, MANIFEST_FILE)).hexdigest()


def open_package(folder: Path, *, digest: str | None = None) -> Package:
    """Open a package after verifying every file of it.

    Args:
        folder: the package.
        digest: what ``digest_of`` gave when it was sealed; None when nobody knows, which then proves
            only that the files agree with each other.

    Raises:
        FileMissing: there is no such folder.
        ArtifactTampered: a file was changed, added, removed or linked since it was sealed.
        ArtifactUnreadable: the manifest or signature is none.
        ArtifactUnsupported: written by a newer Servable, or by one too old to be read.
        StorageFailed: the storage failed.
    """
    if not folder.is_dir():
        raise FileMissing(f"There is no package at {folder}.")
    data = _read_record(folder, MANIFEST_FILE)
    actual = hashlib.sha256(data).hexdigest()
    if digest is not None and actual != digest:
        raise ArtifactTampered(
            f"The manifest of {folder} has the digest {actual[:12]}, not {digest[:12]}: it was changed after "
            "it was published; publish the model again."
        )
    manifest = _decode(data)
    with storage_errors(f"verifying the package {folder.name}"):
        _verify(folder, manifest)
    return Package(folder, manifest, _check_parts(folder, manifest), actual)


def write_signature(folder: Path, signature: Signature) -> None:
    """Put the signature into a package that is being made.

    Raises:
        StorageFull: no space left.
        StorageFailed: the storage failed.
    """
    write_file(folder / SIGNATURE_FILE, signatures.encode(signature))


def read_signature(folder: Path) -> Signature:
    """The signature of a package, unverified; ``open_package`` is the way for a package at rest.

    Raises:
        ArtifactUnreadable: there is none, or it is damaged.
    """
    try:
        return signatures.decode(_read_record(folder, SIGNATURE_FILE))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ArtifactUnreadable(f"{SIGNATURE_FILE} of the package {folder} is damaged: {error}.") from error


def read_outline(folder: Path) -> Outline:
    """The head and the signature of a package, unverified, for descriptions.

    Raises:
        ArtifactUnreadable: there is none, or it is damaged.
        ArtifactUnsupported: written by a newer Servable, or by one too old to be read.
    """
    return Outline(_decode(_read_record(folder, MANIFEST_FILE)), read_signature(folder))


def write_json(folder: Path, name: str, value: Any) -> None:
    """Put a record (``evaluation.json``, ``profile.json``) into a package that is being made.

    Args:
        folder: the package.
        name: the file's name.
        value: a struct, or dicts and lists; numpy numbers are welcome; NaN and infinities become null.

    Raises:
        StorageFull: no space left.
        StorageFailed: the storage failed.
    """
    data = msgspec.json.encode(value, enc_hook=_plain)
    write_file(folder / name, msgspec.json.format(data, indent=2) + b"\n")


def read_evaluation(folder: Path) -> dict[str, Any] | None:
    """The evaluation kept in a package; None where there is none.

    Raises:
        ArtifactUnreadable: it is no JSON object.
    """
    return read_json(folder, EVALUATION_FILE)


def read_profile(folder: Path) -> Profile | None:
    """The reference profile of the training columns; None where there is none.

    Raises:
        ArtifactUnreadable: it is damaged.
    """
    if not (folder / PROFILE_FILE).is_file():
        return None
    try:
        return profile.decode(_read_record(folder, PROFILE_FILE))
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ArtifactUnreadable(f"{PROFILE_FILE} of the package {folder} is damaged: {error}.") from error


def read_json(folder: Path, name: str) -> dict[str, Any] | None:
    """A record kept in a package, unverified; None where there is none.

    Args:
        folder: the package.
        name: the file's name.

    Raises:
        ArtifactUnreadable: it is no JSON object.
    """
    if not (folder / name).is_file():
        return None
    data = _read_record(folder, name)
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ArtifactUnreadable(f"{name} of the package {folder} is damaged: {error}.") from error


def _encode(manifest: Manifest) -> bytes:
    # The format number is written even where it is the default: a reader must never have to guess it.
    record = {"format": manifest.format, **msgspec.to_builtins(manifest, enc_hook=_plain)}
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def _decode(data: bytes) -> Manifest:
    try:
        head = msgspec.json.decode(data, type=dict[str, Any])
        number = head.get("format")
        if not isinstance(number, int) or isinstance(number, bool):
            raise ArtifactUnreadable(f"{MANIFEST_FILE} has no format number, so it is no manifest.")
        reader = READERS.get(number)
        if reader is None:
            advice = "install a newer servable" if number > FORMAT else "make the package again"
            known = ", ".join(str(known) for known in sorted(READERS))
            raise ArtifactUnsupported(
                f"The package has format {number}, and this version of servable reads {known}; {advice}."
            )
        return reader(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ArtifactUnreadable(f"{MANIFEST_FILE} is damaged: {error}.") from error


def _finite(manifest: Manifest) -> Manifest:
    metrics = {name: float(value) for name, value in manifest.metrics.items() if math.isfinite(value)}
    variants = tuple(_finite_proof(variant) for variant in manifest.variants)
    refused = tuple(_finite_proof(variant) for variant in manifest.refused)
    return msgspec.structs.replace(manifest, metrics=metrics, variants=variants, refused=refused)


def _finite_proof(variant: Variant) -> Variant:
    if variant.proof is None or math.isfinite(variant.proof.worst_difference):
        return variant
    # A difference without bound stays the largest that there is; it must not become a zero.
    proof = msgspec.structs.replace(variant.proof, worst_difference=sys.float_info.max)
    return msgspec.structs.replace(variant, proof=proof)


def _plain(value: Any) -> Any:
    """What msgspec cannot write by itself, in plain types."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise NotImplementedError(f"a {type(value).__name__} cannot be written as JSON")


def _scan(folder: Path) -> tuple[set[str], set[str], list[str]]:
    """Files, folders and everything else (links, sockets) below ``folder``, as relative paths."""
    files: set[str] = set()
    folders: set[str] = set()
    strange: list[str] = []
    for path, mode in _walk(folder, ""):
        if stat.S_ISREG(mode):
            files.add(path)
        elif stat.S_ISDIR(mode):
            folders.add(path)
        else:
            strange.append(path)
    return files, folders, sorted(strange)


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.stat(follow_symlinks=False).st_mode) for entry in entries]
    for name, mode in found:
        yield prefix + name, mode
        if stat.S_ISDIR(mode):
            yield from _walk(folder / name, f"{prefix}{name}/")


def _entry(folder: Path, path: str) -> FileEntry:
    descriptor = os.open(folder / path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        return FileEntry(path, size, hashlib.file_digest(file, "sha256").hexdigest())


def _verify(folder: Path, manifest: Manifest) -> None:
    listed = {entry.path: entry for entry in manifest.files}
    for path in listed:
        if not _inside(path):
            raise ArtifactTampered(f"The manifest of {folder} names {path!r}, which no package may hold.")
    if len(listed) != len(manifest.files):
        raise ArtifactTampered(f"The manifest of {folder} names a file twice.")
    files, _, strange = _scan(folder)
    files.discard(MANIFEST_FILE)
    for problem, paths in (
        ("is a link or special file", set(strange)),
        ("is missing", listed.keys() - files),
        ("was added", files - listed.keys()),
    ):
        if paths:
            raise ArtifactTampered(
                f"{min(paths)} of the package {folder} {problem}; publish the model again."
            )
    for path, entry in listed.items():
        if _entry(folder, path) != entry:
            raise ArtifactTampered(
                f"{path} of the package {folder} differs from its recorded digest; publish the model again."
            )


def _inside(path: str) -> bool:
    """Whether a listed path is a plain relative one that stays in the package."""
    pure = PurePosixPath(path)
    plain = bool(path) and str(pure) == path and path != "." and not pure.is_absolute()
    return plain and ".." not in pure.parts and "\0" not in path and path != MANIFEST_FILE


def _check_parts(folder: Path, manifest: Manifest) -> Signature:
    """The signature, after a look at whether the variants have their files."""
    listed = {entry.path for entry in manifest.files}
    if SIGNATURE_FILE not in listed:
        raise ArtifactUnreadable(f"The package {folder} has no {SIGNATURE_FILE}.")
    for variant in manifest.variants:
        inner = variant.path.rstrip("/") + "/"
        if variant.path not in listed and not any(path.startswith(inner) for path in listed):
            raise ArtifactUnreadable(
                f"The package {folder} has no {variant.path}, the file of {variant.name}."
            )
    if manifest.serving not in {variant.name for variant in manifest.variants}:
        raise ArtifactUnreadable(
            f"The package {folder} has no variant {manifest.serving}, which is to serve."
        )
    return read_signature(folder)


def _read_record(folder: Path, name: str) -> bytes:
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(LARGEST_RECORD + 1)
    except OSError as error:
        raise ArtifactUnreadable(
            f"The package {folder} has no readable {name} ({error.strerror})."
        ) from error
    if len(data) > LARGEST_RECORD:
        raise ArtifactUnreadable(f"{name} of the package {folder} is too large to be one.")
    return data
