"""How records of the audit log are added to a database, with whatever speaks to it.

A server adds them with the standard library alone, for the reason that ``reader`` gives, and everybody else
in the transaction of the change that they record; both run these statements.
"""

import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from servable.security.audit_chain import ORIGIN, Entry, Head, Row, link

#: Runs a statement with named parameters, in a transaction in which nobody else writes; the rows it gives.
Run = Callable[[str, Mapping[str, Any]], Sequence[Sequence[Any]]]

_LAST = "SELECT number, record, hash FROM audit ORDER BY number DESC LIMIT 1"
_FIRST = "SELECT number, record, hash FROM audit ORDER BY number LIMIT 1"
_ABOUT = (
    "SELECT record FROM audit WHERE number > :after AND record LIKE :about ORDER BY number DESC LIMIT :most"
)
#: Newest records that are looked through for what was said already, and most of them that are read.
_LOOKED_THROUGH, _MOST_READ = 100_000, 2_000
#: What is no decision about a model, so that what was said before it still holds.
_NO_DECISION = ("denied", "limited", "feedback", "model.", "server.", "version.refuse")
_ADD = "INSERT INTO audit (number, record, hash) VALUES (:number, :record, :hash)"


def head_of(run: Run) -> Head:
    """The log as it is; a new name, and no record, for one that has none."""
    last = run(_LAST, {})
    if not last:
        return Head(secrets.token_hex(8), 0, ORIGIN)
    number, record, hash_ = last[0]
    # A record that somebody damaged must not keep a key from being revoked; ``verify`` finds it.
    log = _log_in(record) or _log_in(run(_FIRST, {})[0][1]) or secrets.token_hex(8)
    return Head(log, int(number), str(hash_) if _usable(hash_) else ORIGIN)


def append(run: Run, entries: Iterable[Entry]) -> Head:
    """Add records.

    Returns:
        The log with them.
    """
    head = head_of(run)
    for entry in entries:
        row: Row = link(head, entry)
        run(_ADD, row._asdict())
        head = Head(head.log, row.number, row.hash)
    return head


def unsaid(run: Run, entries: Iterable[Entry]) -> list[Entry]:
    """The entries about models that the log does not say already.

    It does where the same was done by the same one in the same place, with the same details, and nothing was
    decided about the model since. So several processes that find the same are recorded as one, also over
    restarts, and what comes back after somebody changed something is recorded again.

    Args:
        run: in a transaction in which nobody else writes, so that of several who ask at once one adds.
        entries: with the name of a model as the detail ``model``; each is looked for by itself.
    """
    after = head_of(run).size - _LOOKED_THROUGH
    return [entry for entry in entries if not _said(run, entry, after)]


def _said(run: Run, entry: Entry, after: int) -> bool:
    wanted = _meaning(json.loads(link(Head("", 0, ORIGIN), entry).record))
    model = wanted["details"].get("model")
    about = f"%{json.dumps(model)}%"
    for (record,) in run(_ABOUT, {"after": after, "about": about, "most": _MOST_READ}):
        try:
            found = json.loads(record)
            if found["details"].get("model") != model:
                continue
            if _meaning(found) == wanted:
                return True
            if not str(found["what"]).startswith(_NO_DECISION):
                return False
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue  # Somebody damaged it; ``verify`` finds that.
    return False


def _meaning(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: content[name] for name in ("what", "who", "where", "details")}


def _log_in(record: Any) -> str:
    try:
        log = json.loads(record)["log"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    return log if isinstance(log, str) and len(log) == 16 and _usable(log * 4) else ""


def _usable(hash_: Any) -> bool:
    return isinstance(hash_, str) and len(hash_) == 64 and not set(hash_) - set("0123456789abcdef")
