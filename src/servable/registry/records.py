"""The rows of the registry, as everybody else sees them: frozen, complete, safe to share."""

from typing import Any, NamedTuple

import msgspec

#: The revision of ``migrations`` that makes exactly the tables of ``tables``.
HEAD = "0007"
#: The database of a home, unless a URL names another.
DATABASE = "registry.db"


class AliasRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A name for a version, such as ``champion``."""

    model: str
    alias: str
    version: int
    since: str


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A name under which versions live.

    Attributes:
        name: the model.
        created_at: when its first version came, ISO 8601 in UTC.
        versions: how many there are.
        latest: the newest version's number.
        aliases: alias to version.
    """

    name: str
    created_at: str
    versions: int
    latest: int
    aliases: dict[str, int] = {}


class VersionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a model.

    Attributes:
        model: the name.
        version: the number, from 1; never used twice.
        package: the digest of the present package.
        revision: how often the package of this version was made, from 1; ``optimize`` makes a new one.
        created_at: when the version came, ISO 8601 in UTC.
        framework: who trained it.
        task: what it does; see ``Signature.task``.
        serving: the variant that serves.
        metrics: headline metrics.
        note: a line for people.
    """

    model: str
    version: int
    package: str
    revision: int
    created_at: str
    framework: str
    task: str
    serving: str
    metrics: dict[str, float] = {}
    note: str = ""

    @property
    def reference(self) -> str:
        """``name:version``."""
        return f"{self.model}:{self.version}"


class RevisionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One package that a version has or had, oldest first in ``Models.history``."""

    model: str
    version: int
    revision: int
    package: str
    serving: str
    created_at: str
    reason: str = ""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What one version gets of a model's requests.

    Attributes:
        version: which one.
        weight: above 0; what counts is its part of the sum of all weights.
    """

    version: int
    weight: float


class Traffic(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the requests of a deployment are divided.

    Attributes:
        shares: who answers; empty: the deployment's version answers all of them.
        shadow: a version that gets copies of requests and whose answers nobody sees; 0 for none.
        mirrored: share of the requests that are copied to it, above 0 and up to 1.
    """

    shares: tuple[Share, ...] = ()
    shadow: int = 0
    mirrored: float = 1.0

    @property
    def versions(self) -> tuple[int, ...]:
        """Every version that must be loaded for it, the shadow last."""
        answering = tuple(share.version for share in self.shares)
        return (*answering, self.shadow) if self.shadow and self.shadow not in answering else answering


#: All requests go to the deployment's version.
WHOLE = Traffic()


class DeploymentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Desired state: what should be served under a name.

    Attributes:
        model: the name.
        version: what should be served.
        package: digest of that version's present package.
        serving: that package's variant that serves.
        previous: what ``rollback`` goes back to, the nearest last; empty if nothing.
        default: whether ``POST /predict`` means this model: it is the only deployment or was marked so.
        since: when this version was deployed, ISO 8601 in UTC.
        generation: rises with every change of this deployment.
        policy: how it wants to be served, as far as that differs from the defaults; see ``policy.Policy``.
        traffic: how its requests are divided while several versions answer or are compared.
    """

    model: str
    version: int
    package: str
    serving: str
    previous: tuple[int, ...] = ()
    default: bool = False
    since: str = ""
    generation: int = 0
    policy: dict[str, Any] = {}
    traffic: Traffic = WHOLE


class Finding(NamedTuple):
    """One thing that is known of one version.

    Attributes:
        model: its name.
        version: which one; 0 for what concerns the model as a whole.
        kind: what it is about: ``quality``, ``drift`` ...
        updated_at: when it was found, ISO 8601 in UTC.
        value: plain values as JSON has them; what they mean is up to the kind.
    """

    model: str
    version: int
    kind: str
    updated_at: str
    value: dict[str, Any]
