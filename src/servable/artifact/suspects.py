"""Finds columns that may say who somebody is, by names and values. Pure; it suggests and decides nothing.

It looks for forms that carry their own proof (check digits of cards and bank accounts) or that nothing else
has (addresses of mail and of machines), and at names of columns. It misses whatever looks like nothing, such
as surnames in a column called ``x``; a person must look as well.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

#: Values that are looked at of one column.
MOST_VALUES = 500
#: Share of the values of a column that must look like something.
_SHARE = 0.3
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")
_PHONE = re.compile(r"(\+|00)\d[\d\s()./-]{6,18}\d|\(?0\d{2,5}\)?[\s/-]\d[\d\s-]{3,12}\d")
_IBAN = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")
_CARD = re.compile(r"\d{13,19}")
_NAMES: tuple[tuple[str, str], ...] = (
    (r"e_?mail|mail_?address", "an e-mail address"),
    (r"phone|telephone|mobile|cell(_?phone)?|fax|telefon|handy", "a telephone number"),
    (r"(first|last|full|given|family|middle|maiden|sur|user|customer|client|patient|person)_?name|surname|"
     r"nachname|vorname|forename|username|login", "a name"),
    (r"birth_?(day|date)|date_of_birth|dob|born|geburtsdatum", "a date of birth"),
    (r"(street|home|postal|mailing|billing)_?address|address|street|strasse|adresse", "an address"),
    (r"ssn|social_security(_number)?|passport(_?(no|number))?|tax_?id|national_?id|nino|driver_?licen[cs]e",
     "an official number"),
    (r"iban|account_?(no|number)|bank_?account", "a bank account"),
    (r"(credit_?)?card_?(no|number)|pan", "a card number"),
    (r"ip(_?addr(ess)?)?|client_ip|remote_addr", "an internet address"),
    (r"(customer|patient|user|client|person|member|employee)_?(id|no|number)", "the number of a person"),
)  # fmt: skip


class Suspect(NamedTuple):
    """A column that may say who somebody is.

    Attributes:
        column: its name.
        looks_like: what, in a few words.
    """

    column: str
    looks_like: str


def suspect(column: str, values: Sequence[str]) -> Suspect | None:
    """What a column may say about people; None where nothing is found.

    Args:
        column: its name.
        values: some of its values as texts, without missing ones.
    """
    some = [value.strip() for value in values[:MOST_VALUES] if value.strip()]
    for looks_like, test in _TESTS:
        if some and sum(map(test, some)) >= _SHARE * len(some):
            return Suspect(column, f"its values look like {looks_like}")
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column).lower()
    plain = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    for pattern, looks_like in _NAMES:
        if re.fullmatch(rf"(.*_)?({pattern})(_.*)?", plain):
            return Suspect(column, f"its name says {looks_like}")
    return None


def is_card(value: str) -> bool:
    """Whether a text is a number of a payment card: 13 to 19 digits that fit their check digit (Luhn)."""
    digits = re.sub(r"[ -]", "", value)
    if _CARD.fullmatch(digits) is None or len(set(digits)) == 1:
        return False
    turned = [int(digit) for digit in reversed(digits)]
    doubled = [sum(divmod(2 * digit, 10)) for digit in turned[1::2]]
    return (sum(turned[0::2]) + sum(doubled)) % 10 == 0


def is_iban(value: str) -> bool:
    """Whether a text is a number of a bank account that fits its check digits (ISO 13616)."""
    plain = value.replace(" ", "").upper()
    if _IBAN.fullmatch(plain) is None:
        return False
    number = "".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])
    return int(number) % 97 == 1


def is_address(value: str) -> bool:
    """Whether a text is an address of a machine, IPv4 or IPv6."""
    if not ("." in value or ":" in value):
        return False
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


_TESTS: Iterable[tuple[str, Callable[[str], bool]]] = (
    ("e-mail addresses", lambda value: _EMAIL.fullmatch(value) is not None),
    ("bank accounts", is_iban),
    ("card numbers", is_card),
    ("internet addresses", is_address),
    ("telephone numbers", lambda value: _PHONE.fullmatch(value) is not None and not is_card(value)),
)
