"""``privacy report``: attacks on a version, in the form that serves or over a server's address."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.artifact.manifest import Manifest
from servable.artifact.package import Package
from servable.artifact.signature import Signature
from servable.clock import SystemClock, timestamp
from servable.errors import DataError, SettingInvalid
from servable.frameworks import lookup
from servable.monitoring.labels import label_text
from servable.progress import NoProgress, Progress
from servable.runtime.model import variant_of
from servable.tensors import PREDICTION, PROBABILITIES, Arrays, row_count, stack, take
from servable.workflows.homes import opened
from servable.workflows.labelled import Labelled, labelled

if TYPE_CHECKING:
    from servable.training.attacks.membership import Side
    from servable.training.attacks.records import PrivacyReport

#: Fewer rows than this on a side say nothing.
LEAST_ROWS = 50
#: Rows of each side that are used at most.
MOST_ROWS = 5000
#: Rows in one request to a server.
_REQUEST_ROWS = 1000

Ask = Callable[[Arrays], Mapping[str, Any]]


def privacy_report(
    reference: str,
    *,
    members: str | Path,
    others: str | Path,
    target: str | None = None,
    queries: int = 2000,
    url: str | None = None,
    report: str | Path | None = None,
    seed: int = 0,
    home: str | Path | None = None,
    progress: Progress | None = None,
) -> "PrivacyReport":
    """Attack a version as somebody would who may ask it, and say what that finds out.

    Args:
        reference: ``name`` (the newest version), ``name:3`` or ``name@alias``.
        members: rows that it learned from, with their right answers; data as for ``evaluate``.
        others: rows of the same source that it did not learn from, with their right answers.
        target: the column with the right answers, if it is not named as when the model was made.
        queries: rows that an attacker may ask for who wants a copy.
        url: of a server that serves it, which is then asked over HTTP; None asks the form that serves here.
        report: where to write the page; None writes none.
        seed: of what is left to chance.
        home: the folder of the registry; looked up when None.
        progress: told of every stage.

    Raises:
        ModelNotFound: there is no such model.
        DataError: the rows do not fit, or are too few.
        SettingInvalid: the model answers with neither labels nor numbers, or an option cannot be used.
        RemoteError: the server refused a request.
    """
    watched = progress or NoProgress()
    with opened(home) as place:
        record = place.models.resolve(reference)
        package = place.package(record)
    signature = package.signature
    if signature.task not in ("classification", "regression"):
        raise SettingInvalid(
            f"{record.reference} is a {signature.task}; attacks on membership need right answers, which only "
            "classification and regression have."
        )
    if queries < LEAST_ROWS:
        raise SettingInvalid(f"A copy needs at least {LEAST_ROWS} queries, not {queries}.")
    watched.begin("Read the rows")
    sides = [labelled(data, record.reference, signature, target) for data in (members, others)]
    watched.done(f"{sides[0].size} members, {sides[1].size} others")
    with _asking(package, record.reference, url) as ask:
        found = _attacked(package, ask, sides, queries, seed, watched)
    made = _report(found, package.manifest, record.version, url)
    if report is not None:
        from servable.training import pages
        from servable.training.attacks import page

        pages.write(report, page.render(made))
    return made


class _asking:  # noqa: N801 - used as a function is
    """Asks the form that serves, or a server; a context manager that gives the function which asks."""

    def __init__(self, package: Package, reference: str, url: str | None) -> None:
        self._package, self._reference, self._url = package, reference, url
        self._open: Any = None

    def __enter__(self) -> Ask:
        package = self._package
        if self._url is None:
            chosen = variant_of(package.manifest)
            adapter = lookup.adapter(chosen.format)
            self._open = adapter.load(
                package.folder, chosen, package.signature, trust=package.manifest.trusted
            )
            predict: Ask = self._open.predict
            return predict
        from servable.client import Client

        self._open = Client(self._url)
        return lambda arrays: _over(self._open, self._reference, package.signature, arrays)

    def __exit__(self, *_: object) -> None:
        self._open.close()


def _over(client: Any, reference: str, signature: Signature, arrays: Arrays) -> dict[str, Any]:
    """What a server answers to packed rows of a table."""
    from servable.frameworks.frame import to_frame

    labels = {label_text(label): place for place, label in enumerate(signature.classes)}
    parts: list[dict[str, Any]] = []
    for start in range(0, row_count(arrays), _REQUEST_ROWS):
        rows = take(arrays, slice(start, start + _REQUEST_ROWS))
        told = client.predict(reference, to_frame(rows, signature, "pandas"))
        given = list(told.predictions)
        if not labels:
            parts.append({PREDICTION: np.asarray(given, np.float64)})
            continue
        part: dict[str, Any] = {
            PREDICTION: np.asarray([labels[label_text(label)] for label in given], np.int64)
        }
        if told.probabilities is not None:
            part[PROBABILITIES] = np.asarray(
                [
                    [chances[label_text(label)] for label in signature.classes]
                    for chances in told.probabilities
                ]
            )
        parts.append(part)
    return stack(parts)


def _attacked(
    package: Package, ask: Ask, sides: list[Labelled], queries: int, seed: int, progress: Progress
) -> dict[str, Any]:
    from servable.training.attacks import extraction, membership, wording
    from servable.training.attacks.features import is_table

    signature = package.signature
    rows = [_some(side, seed) for side in sides]
    kept = _unlike(rows[0][0], rows[1][0])
    left_out = int((~kept).sum())
    rows[1] = (take(rows[1][0], kept), rows[1][1][kept])
    for name, (_, truth) in zip(("members", "others"), rows, strict=True):
        if len(truth) < LEAST_ROWS:
            raise DataError(
                f"Only {len(truth)} {name} are left; at least {LEAST_ROWS} rows are needed that say something"
                f"{' and are no members' if name == 'others' else ''}."
            )
    progress.begin("Attack membership")
    members, others = (_answered(ask, *each) for each in rows)
    found = membership.attacked(signature, members, others, ask, seed=seed)
    progress.done(f"AUC {found.attacks[0].auc:.3f} by {found.attacks[0].name}")
    extractions: Any = ()
    usual, notes = 0.0, []
    if is_table(signature):
        progress.begin("Copy the model")
        extractions, usual = extraction.extracted(signature, others.arrays, ask, queries=queries, seed=seed)
        progress.done()
    else:
        notes.append("Rows of texts, pictures and sounds were not moved, compared or made up.")
    if len(others.truth) < 1 / 0.01:
        notes.append("With fewer than 100 others no false alarm at all is allowed in place of 1 %.")
    numbers = signature.task == "regression"
    return {
        "task": signature.task,
        "members": members.rows,
        "others": others.rows,
        "left_out": left_out,
        "attacks": found.attacks,
        "blind": found.blind,
        "extractions": extractions,
        "usual": usual,
        "verdict": wording.said_of_members(found.attacks, found.blind, members.rows, others.rows),
        "copying": wording.said_of_copies(extractions, usual, numbers=numbers),
        "notes": tuple(notes),
    }


def _some(side: Labelled, seed: int) -> tuple[Arrays, Any]:
    """At most ``MOST_ROWS`` of the rows, by chance, with their right answers."""
    arrays = stack(
        [
            dict(side.part(slice(start, start + side.chunk_rows)))
            for start in range(0, side.size, side.chunk_rows)
        ]
    )
    chosen = np.sort(np.random.default_rng(seed).permutation(side.size)[:MOST_ROWS])
    return take(arrays, chosen), np.asarray(side.truth)[chosen]


def _unlike(members: Arrays, others: Arrays) -> Any:
    """Which of the others are none of the members, bool ``[rows]``."""

    def keys(arrays: Arrays) -> list[bytes]:
        return [
            b"|".join(
                repr(array[row].tolist()).encode() if array.dtype == object else array[row].tobytes()
                for array in arrays.values()
            )
            for row in range(row_count(arrays))
        ]

    known = set(keys(members))
    return np.asarray([key not in known for key in keys(others)], bool)


def _answered(ask: Ask, arrays: Arrays, truth: Any) -> "Side":
    from servable.training.attacks.membership import Side

    return Side(arrays, truth, ask(arrays))


def _report(found: dict[str, Any], manifest: Manifest, version: int, url: str | None) -> "PrivacyReport":
    from servable.training.attacks.records import PrivacyReport

    return PrivacyReport(
        model=manifest.model,
        version=version,
        asked=url or f"the form that serves, {manifest.serving}",
        privacy=dict(manifest.recipe.get("privacy", {})),
        created_at=timestamp(SystemClock().now()),
        **found,
    )
