"""Columns of national numbers, as presidio knows them: without a model of a language, and offline."""

import hashlib
import socket
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest

pytest.importorskip("presidio_analyzer", reason="needs the extra privacy; make test-all has it")

from servable.artifact.signature import Field, Signature
from servable.workflows.personal import sentences, suspects

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

ROWS = 60
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
#: Of an Italian tax code what a digit or letter counts on an odd place; on an even one it counts its rank.
_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_VERHOEFF = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def _weighed(digits: str, weights: tuple[int, ...]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=True))


def pesel(number: int) -> str:
    """A Polish identity number: a date of birth, four digits, a check digit."""
    body = f"85{number % 12 + 1:02}{number % 28 + 1:02}{number * 37 % 10_000:04}"
    return body + str(-_weighed(body, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10)


def nif(number: int) -> str:
    """A Spanish identity number: eight digits and a letter."""
    body = 12_345_678 + 7_919 * number
    return f"{body:08}{'TRWAGMYFPDXBNJZSQVHLCKE'[body % 23]}"


def finnish(number: int) -> str:
    """A Finnish identity code: a date of birth, three digits and a check character."""
    born, running = f"{number % 28 + 1:02}{number % 12 + 1:02}73", f"{number + 100:03}"
    return f"{born}-{running}{'0123456789ABCDEFHJKLMNPRSTUVWXY'[int(born + running) % 31]}"


def nhs(number: int) -> str:
    """A number of a British patient; 10 is no check digit, so such numbers are not given out."""
    body = next(
        text
        for text in (f"{943_476_000 + 10 * number + step:09}" for step in range(10))
        if _weighed(text, (10, 9, 8, 7, 6, 5, 4, 3, 2)) % 11 != 1
    )
    return body + str(-_weighed(body, (10, 9, 8, 7, 6, 5, 4, 3, 2)) % 11)


def tfn(number: int) -> str:
    """An Australian tax number: nine digits whose weighed sum 11 divides."""
    return next(
        text
        for text in (f"{123_450_000 + 100 * number + step:09}" for step in range(100))
        if _weighed(text, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0
    )


def aadhaar(number: int) -> str:
    """An Indian identity number: eleven digits and one by Verhoeff's method."""
    body, check = f"{23_412_341_000 + 97 * number}", 0
    for place, digit in enumerate(reversed(body), start=1):
        value = int(digit)
        for _ in range(place % 8):
            value = _VERHOEFF[value]
        check = _turned(check, value)
    return body + str(next(digit for digit in range(10) if _turned(check, digit) == 0))


def _turned(first: int, second: int) -> int:
    """The product of two of the ten turns and mirrorings of a pentagon."""
    if first < 5:
        return (first + second) % 5 if second < 5 else (first + second - 5) % 5 + 5
    return (first - 5 - second) % 5 + 5 if second < 5 else (first - second) % 5


def fiscal(number: int) -> str:
    """An Italian tax code: letters of the name, date and place of birth, a check letter."""
    body = f"RSSMRA85T{number % 28 + 1:02}A{number * 7 % 900 + 100:03}"
    ranks = [int(sign) if sign.isdigit() else ord(sign) - ord("A") for sign in body]
    total = sum(_ODD[rank] if place % 2 == 0 else rank for place, rank in enumerate(ranks))
    return body + chr(ord("A") + total % 26)


def wallet(number: int) -> str:
    """An address of Bitcoin: a digest with a checksum, in base 58."""
    body = b"\0" + hashlib.sha256(str(number).encode()).digest()[:20]
    whole = body + hashlib.sha256(hashlib.sha256(body).digest()).digest()[:4]
    value, text = int.from_bytes(whole), ""
    while value:
        value, rest = divmod(value, 58)
        text = _BASE58[rest] + text
    return "1" + text


def broken(value: str) -> str:
    """The same with another last sign, so that no check holds."""
    signs = "0123456789" if value[-1].isdigit() else _BASE58[33:] if value[-1].islower() else "ABCDEFGHJK"
    return value[:-1] + signs[(signs.find(value[-1]) + 1) % len(signs)]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever would fetch a list or a model of a language fails."""

    def refused(*_arguments: object) -> None:
        raise AssertionError("something was to be fetched")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    yield
    assert not {name for name in sys.modules if name.startswith(("en_core_", "stanza", "xx_"))}


def signature() -> Signature:
    return Signature(
        task="regression",
        inputs=(Field(name="code", kind="category", dtype="str"),),
        outputs=(Field(name="y", kind="number", dtype="float64"),),
    )


def told(values: list[str]) -> list[str]:
    """What is said of a column with these values."""
    rows = {"strings": np.array([[value] for value in values], object)}
    return [each.looks_like for each in suspects(signature(), rows)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (pesel, "Polish identity numbers"),
        (nif, "Spanish identity numbers"),
        (finnish, "Finnish identity codes"),
        (nhs, "numbers of British patients"),
        (tfn, "Australian tax numbers"),
        (aadhaar, "Indian identity numbers"),
        (fiscal, "Italian tax codes"),
        (wallet, "wallets"),
    ],
)
def test_national_numbers_are_known_by_their_check_digits(make: Callable[[int], str], words: str) -> None:
    values = [make(number) for number in range(ROWS)]
    (said,) = told(values)
    assert said.startswith("its values look like ")
    # Some numbers are ones of several countries, and the first that fits is named.
    assert said == f"its values look like {words}"
    assert told([broken(value) for value in values]) == []


def test_few_among_others_are_no_column_of_them() -> None:
    mixed = [pesel(number) if number % 5 == 0 else f"order {number}" for number in range(ROWS)]
    assert told(mixed) == []
    assert told([pesel(number) if number % 2 else "none" for number in range(ROWS)]) != []


def test_it_is_said_in_one_sentence() -> None:
    rows = {"strings": np.array([[nif(number)] for number in range(ROWS)], object)}
    (said,) = sentences(suspects(signature(), rows))
    assert "code may be personal: its values look like Spanish identity numbers" in said
