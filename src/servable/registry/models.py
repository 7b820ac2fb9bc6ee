"""Models, their versions, packages and aliases, as rows."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from servable.artifact.manifest import Manifest
from servable.clock import Clock, timestamp
from servable.errors import ModelNotFound, NotFoundError, VersionNotFound
from servable.registry import tables
from servable.registry.audit import written
from servable.registry.records import AliasRecord, ModelRecord, RevisionRecord, VersionRecord
from servable.registry.references import Reference, checked_alias, checked_name, parse_reference
from servable.registry.state import State


class Models:
    """The models of one registry. Safe to share between threads and processes.

    Every method is one transaction. All of them raise ``StorageFailed`` or ``StorageFull`` when the
    database does.
    """

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    def all(self) -> tuple[ModelRecord, ...]:
        """Every model, by name."""
        with self._state.reading() as connection:
            return _models(connection)

    def get(self, name: str) -> ModelRecord:
        """One model.

        Raises:
            ModelNotFound: there is none of this name.
        """
        with self._state.reading() as connection:
            for record in _models(connection, name):
                return record
            raise missing_model(connection, name)

    def versions(self, name: str) -> tuple[VersionRecord, ...]:
        """Every version of a model, oldest first.

        Raises:
            ModelNotFound: there is no such model.
        """
        table = tables.versions
        with self._state.reading() as connection:
            rows = connection.execute(select(table).where(table.c.model == name).order_by(table.c.version))
            records = tuple(_version(row) for row in rows)
            if not records:
                raise missing_model(connection, name)
            return records

    def resolve(self, reference: str | Reference) -> VersionRecord:
        """The version that ``name`` (the newest), ``name:3`` or ``name@alias`` means.

        Raises:
            InputError: the text is no reference.
            ModelNotFound: there is no such model.
            VersionNotFound: the model has no such version or alias.
        """
        parsed = parse_reference(reference) if isinstance(reference, str) else reference
        with self._state.reading() as connection:
            return _resolve(connection, parsed)

    def create_version(
        self,
        package: str,
        manifest: Manifest,
        task: str,
        *,
        note: str = "",
        connection: Connection | None = None,
    ) -> VersionRecord:
        """Give a published package the next number of ``manifest.model``.

        Args:
            package: the package's digest.
            manifest: its head.
            task: what the model does.
            note: a line for people.
            connection: a transaction to do it in; None for one of its own.

        Raises:
            InputError: ``manifest.model`` is no model name.
        """
        checked_name(manifest.model)
        if connection is None:
            with self._state.writing() as own:
                return self.create_version(package, manifest, task, note=note, connection=own)
        now = timestamp(self._clock.now())
        version = _next_version(connection, manifest.model, now)
        record = VersionRecord(
            model=manifest.model,
            version=version,
            package=package,
            revision=1,
            created_at=now,
            framework=manifest.framework,
            task=task,
            serving=manifest.serving,
            metrics=dict(manifest.metrics),
            note=note,
        )
        values = {field: getattr(record, field) for field in record.__struct_fields__}
        connection.execute(insert(tables.versions).values(values))
        _remember(connection, record, now, "created")
        written(connection, self._clock, "version.create", **_told(record), framework=record.framework)
        return record

    def replace_package(
        self,
        model: str,
        version: int,
        package: str,
        manifest: Manifest,
        *,
        reason: str = "",
        connection: Connection | None = None,
    ) -> VersionRecord:
        """Give a version a new package of the same model, for instance with compiled variants.

        The number stays and the revision rises; ``history`` keeps the package before. A deployment of
        the version then means the new package.

        Args:
            model: the name.
            version: the number.
            package: digest of the new package.
            manifest: its head.
            reason: why, in a few words.
            connection: a transaction to do it in; None for one of its own.

        Raises:
            ModelNotFound: there is no such model.
            VersionNotFound: it has no such version.
        """
        if connection is None:
            with self._state.writing() as own:
                return self.replace_package(model, version, package, manifest, reason=reason, connection=own)
        before = _resolve(connection, Reference(model, version))
        if before.package == package:
            return before
        table = tables.versions
        connection.execute(
            update(table)
            .where(table.c.model == model, table.c.version == version)
            .values(
                package=package,
                revision=before.revision + 1,
                serving=manifest.serving,
                metrics=dict(manifest.metrics),
            )
        )
        after = _resolve(connection, Reference(model, version))
        _remember(connection, after, timestamp(self._clock.now()), reason)
        written(
            connection, self._clock, "version.replace", **_told(after), before=before.package, reason=reason
        )
        return after

    def history(self, model: str, version: int) -> tuple[RevisionRecord, ...]:
        """Every package that a version had, oldest first; the last is the present one.

        Raises:
            ModelNotFound: there is no such model.
            VersionNotFound: it has no such version.
        """
        table = tables.revisions
        with self._state.reading() as connection:
            _resolve(connection, Reference(model, version))
            rows = connection.execute(
                select(table)
                .where(table.c.model == model, table.c.version == version)
                .order_by(table.c.revision)
            )
            return tuple(RevisionRecord(**row._mapping) for row in rows)

    def set_alias(self, model: str, alias: str, version: int) -> AliasRecord:
        """Let an alias mean this version from now on.

        Raises:
            InputError: the alias is none, or is ``latest``.
            ModelNotFound: there is no such model.
            VersionNotFound: it has no such version.
        """
        record = AliasRecord(
            model=model, alias=checked_alias(alias), version=version, since=timestamp(self._clock.now())
        )
        with self._state.writing() as connection:
            _resolve(connection, Reference(model, version))
            _delete_alias(connection, model, alias)
            values = {field: getattr(record, field) for field in record.__struct_fields__}
            connection.execute(insert(tables.aliases).values(values))
            written(connection, self._clock, "alias.set", model=model, alias=alias, version=version)
        return record

    def remove_alias(self, model: str, alias: str) -> None:
        """Forget an alias.

        Raises:
            VersionNotFound: the model has no such alias.
        """
        with self._state.writing() as connection:
            if _delete_alias(connection, model, alias) == 0:
                raise VersionNotFound(f"The model {model} has no alias {alias!r}; nothing was removed.")
            written(connection, self._clock, "alias.remove", model=model, alias=alias)

    def aliases(self, model: str) -> tuple[AliasRecord, ...]:
        """The aliases of a model, by name; empty when there are none."""
        table = tables.aliases
        with self._state.reading() as connection:
            rows = connection.execute(select(table).where(table.c.model == model).order_by(table.c.alias))
            return tuple(AliasRecord(**row._mapping) for row in rows)


def resolve_version(connection: Connection, model: str, version: int) -> VersionRecord:
    """One version, read in a transaction that somebody has open.

    Raises:
        ModelNotFound: there is no such model.
        VersionNotFound: it has no such version.
    """
    return _resolve(connection, Reference(model, version))


def _told(record: VersionRecord) -> dict[str, Any]:
    """What the audit log says of a version."""
    return {
        "model": record.model,
        "version": record.version,
        "revision": record.revision,
        "package": record.package,
    }


def missing_model(connection: Connection, name: str) -> NotFoundError:
    """The error that says which models there are instead."""
    known = connection.execute(select(tables.models.c.name).order_by(tables.models.c.name)).scalars().all()
    return ModelNotFound(f"There is no model {name!r}; {_listed('models', known)}.")


def packages_in_use(connection: Connection) -> frozenset[str]:
    """The digests of all packages that a version has or had."""
    return frozenset(connection.execute(select(tables.revisions.c.package)).scalars())


def _listed(what: str, names: Iterable[Any]) -> str:
    shown = [str(name) for name in names]
    if not shown:
        return f"there are no {what} yet"
    more = f" and {len(shown) - 10} more" if len(shown) > 10 else ""
    return f"known {what}: {', '.join(shown[:10])}{more}"


def _models(connection: Connection, name: str | None = None) -> tuple[ModelRecord, ...]:
    table, versions = tables.models, tables.versions
    counted = (
        select(table.c.name, table.c.created_at, func.count(), func.max(versions.c.version))
        .join(versions, versions.c.model == table.c.name)
        .group_by(table.c.name, table.c.created_at)
        .order_by(table.c.name)
    )
    named = select(tables.aliases)
    if name is not None:
        counted = counted.where(table.c.name == name)
        named = named.where(tables.aliases.c.model == name)
    aliases: dict[str, dict[str, int]] = {}
    for row in connection.execute(named.order_by(tables.aliases.c.alias)):
        aliases.setdefault(row.model, {})[row.alias] = row.version
    return tuple(
        ModelRecord(
            name=found, created_at=since, versions=count, latest=latest, aliases=aliases.get(found, {})
        )
        for found, since, count, latest in connection.execute(counted)
    )


def _version(row: Row[Any]) -> VersionRecord:
    return VersionRecord(**row._mapping)


def _resolve(connection: Connection, reference: Reference) -> VersionRecord:
    table = tables.versions
    wanted = select(table).where(table.c.model == reference.model)
    if reference.version is not None:
        wanted = wanted.where(table.c.version == reference.version)
    elif reference.alias is not None:
        alias = tables.aliases
        wanted = wanted.join(
            alias, (alias.c.model == table.c.model) & (alias.c.version == table.c.version)
        ).where(alias.c.alias == reference.alias)
    else:
        wanted = wanted.order_by(table.c.version.desc()).limit(1)
    row = connection.execute(wanted).first()
    if row is not None:
        return _version(row)
    for known in _models(connection, reference.model):
        if reference.alias is not None:
            raise VersionNotFound(
                f"The model {known.name} has no alias {reference.alias!r}; "
                f"{_listed('aliases', known.aliases)}."
            )
        raise VersionNotFound(
            f"The model {known.name} has no version {reference.version}; its newest is {known.latest}."
        )
    raise missing_model(connection, reference.model)


def _next_version(connection: Connection, model: str, now: str) -> int:
    table = tables.models
    # Writers take turns (see tables), so nobody comes between the reading and the writing.
    last = connection.execute(select(table.c.last_version).where(table.c.name == model)).scalar()
    if last is None:
        connection.execute(insert(table).values(name=model, created_at=now, last_version=1))
        return 1
    connection.execute(update(table).where(table.c.name == model).values(last_version=last + 1))
    return int(last) + 1


def _remember(connection: Connection, record: VersionRecord, now: str, reason: str) -> None:
    connection.execute(
        insert(tables.revisions).values(
            model=record.model,
            version=record.version,
            revision=record.revision,
            package=record.package,
            serving=record.serving,
            created_at=now,
            reason=reason,
        )
    )


def _delete_alias(connection: Connection, model: str, alias: str) -> int:
    table = tables.aliases
    return connection.execute(delete(table).where(table.c.model == model, table.c.alias == alias)).rowcount
