"""Which columns may be about people: by names, and by values that prove themselves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.artifact.suspects import is_address, is_card, is_iban, suspect

MAILS = ["ann@example.com", "bob.smith@mail.example.org", "c+d@example.co.uk"]
CARDS = ["4111 1111 1111 1111", "5500-0000-0000-0004", "340000000000009"]
IBANS = ["GB82 WEST 1234 5698 7654 32", "DE89370400440532013000", "fr1420041010050500013m02606"]
MACHINES = ["192.0.2.1", "2001:db8::1", "10.0.0.255"]
PHONES = ["+49 30 1234567", "0044 20 7946 0958", "030-1234567", "(030) 123 4567"]


@pytest.mark.parametrize(
    ("values", "found"),
    [(MAILS, "e-mail"), (CARDS, "card"), (IBANS, "bank"), (MACHINES, "internet"), (PHONES, "telephone")],
)
def test_values_tell(values: list[str], found: str) -> None:
    made = suspect("x", values)
    assert made is not None
    assert made.column == "x"
    assert found in made.looks_like
    # One in ten is a typing error or a coincidence.
    assert suspect("x", values[:1] + ["harmless"] * 9) is None


NAMES = """email E-Mail customerEmail surname lastName first_name birth_date dob DateOfBirth home_address
street phone mobile_no iban ssn ip_address customer_id patientId Nachname"""


@pytest.mark.parametrize("name", [*NAMES.split(), "passport no"])
def test_names_tell(name: str) -> None:
    made = suspect(name, [])
    assert made is not None
    assert "its name says" in made.looks_like


HARMLESS = "age amount fare species name_length target town pandas shipment filename hours"


@pytest.mark.parametrize("name", [*HARMLESS.split(), "sepal length (cm)", "worst perimeter"])
def test_harmless_columns_are_not_suspected(name: str) -> None:
    assert suspect(name, ["1", "2.5", "blue", "2026-01-31", "12345", "3 of 4", "10:30", "1-2-3"]) is None


@given(st.integers(10**12, 10**18 - 1), st.integers(1, 9))
def test_check_digits_of_cards_find_every_wrong_digit(number: int, change: int) -> None:
    fitting = next(text for digit in range(10) if is_card(text := f"{number}{digit}") or digit == 9)
    assert is_card(fitting) or len(set(fitting)) == 1
    wrong = f"{fitting[:-1]}{(int(fitting[-1]) + change) % 10}"
    assert not is_card(wrong)


@given(st.text(max_size=40))
def test_any_text_can_be_looked_at(text: str) -> None:
    assert suspect("x", [text]) is None or text.strip()
    assert all(type(test(text)) is bool for test in (is_card, is_iban, is_address))
