"""A model file or a package cannot be taken in."""

from collections.abc import Sequence

from servable.errors.root import ServableError


class ArtifactError(ServableError, code="artifact_error"):
    """A model file or a package that cannot be taken in."""


class ArtifactUnreadable(ArtifactError, code="artifact_unreadable"):
    """Empty, truncated, or not what its name says."""


class ArtifactUntrusted(ArtifactError, code="artifact_untrusted"):
    """Loading the file would execute code, and nobody said that this is wanted.

    Args:
        names: what loading would import and call, ``module.name`` each, sorted.
    """

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


class ArtifactTampered(ArtifactError, code="artifact_tampered"):
    """A file of a package differs from its recorded digest."""


class SignatureRefused(ArtifactError, code="signature_refused"):
    """A package has no signature that counts, or one of another version, or is older than what was served."""


class ArtifactUnsupported(ArtifactError, code="artifact_unsupported"):
    """A file or package that nothing here can read."""
