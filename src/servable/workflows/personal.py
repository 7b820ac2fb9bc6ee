"""Which inputs of a model may say who somebody is, as far as names and sample rows tell."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from servable.artifact.signature import Field, Signature, names
from servable.artifact.suspects import MOST_VALUES, Suspect, suspect
from servable.tensors import Arrays

#: Recognisers of presidio that check digits, need no model of a language and fetch nothing (that of e-mail
#: addresses fetches a list of domains), and what they find.
_PATTERNS = {
    "AuTfnRecognizer": "Australian tax numbers",
    "CryptoRecognizer": "wallets",
    "EsNifRecognizer": "Spanish identity numbers",
    "FiPersonalIdentityCodeRecognizer": "Finnish identity codes",
    "InAadhaarRecognizer": "Indian identity numbers",
    "ItFiscalCodeRecognizer": "Italian tax codes",
    "NhsRecognizer": "numbers of British patients",
    "PlPeselRecognizer": "Polish identity numbers",
}
_SURE, _SHARE, _MOST_ASKED = 0.8, 0.3, 100


def suspects(signature: Signature, rows: Arrays | None) -> tuple[Suspect, ...]:
    """Inputs that may be personal and are not marked so.

    presidio is asked as well where it is installed (the extra ``privacy``).

    Args:
        signature: of the model.
        rows: some of the rows that it learned from or accepts; None where there are none.
    """
    found = []
    ask = _presidio()
    for field in signature.inputs:
        if field.personal or field.is_tensor:
            continue
        values = _texts(signature, field, rows)
        made = suspect(field.name, values) or ask(field.name, values)
        if made is not None:
            found.append(made)
    return tuple(found)


def sentences(found: Sequence[Suspect]) -> Iterator[str]:
    """What is said about such inputs."""
    for each in found:
        yield (
            f"{each.column} may be personal: {each.looks_like}. Mark it with --personal {each.column}, so "
            "that no value of it is captured or kept in the package."
        )


def choices(given: Sequence[str] | Mapping[str, str] | None) -> dict[str, str]:
    """Personal columns with what becomes of each: what is said, and where nothing is, ``drop``."""
    if given is None:
        return {}
    return dict(given) if isinstance(given, Mapping) else dict.fromkeys(given, "drop")


def _texts(signature: Signature, field: Field, rows: Arrays | None) -> list[str]:
    if rows is None or field.array not in rows or field.dtype in ("bool", "datetime"):
        return []
    place = names(signature.packed(field.array)).index(field.name)
    column = np.asarray(rows[field.array])[:MOST_VALUES, place]
    if column.dtype == object:
        return [text for text in column.tolist() if text]
    # Numbers with fractions are measured; whole ones may be numbers of something.
    return [str(int(value)) for value in column.tolist() if np.isfinite(value) and float(value).is_integer()]


def _presidio() -> Any:
    """Asks presidio about a column; nobody where it is not installed."""
    try:
        from presidio_analyzer import predefined_recognizers
    except ImportError:
        return lambda _name, _values: None
    recognizers = [
        (getattr(predefined_recognizers, name)(), found)
        for name, found in _PATTERNS.items()
        if hasattr(predefined_recognizers, name)
    ]

    def asked(name: str, values: Sequence[str]) -> Suspect | None:
        some = values[:_MOST_ASKED]
        for recognizer, found in recognizers:
            hits = sum(
                any(
                    each.score >= _SURE
                    for each in recognizer.analyze(value, recognizer.supported_entities, None) or ()
                )
                for value in some
            )
            if some and hits >= _SHARE * len(some):
                return Suspect(name, f"its values look like {found}")
        return None

    return asked
