"""Which form of an answer the header Accept means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import NotAcceptable
from servable.protocols.accept import MediaRange, media_ranges, preferred
from servable.protocols.answer_forms import ALIASES, ARROW, CSV, EVENTS, FORMS, JSON, LINES, NPY, asked_form

OFFERED = (JSON, CSV, EVENTS)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("text/*", CSV),
        ("text/csv", CSV),
        ("TEXT/CSV ; charset=utf-8", CSV),
        ("text/csv;q=0.5, application/json;q=0.4", CSV),
        ("text/csv;q=0.5, application/json;q=0.500", CSV),
        ("application/json;q=0.5, text/csv;q=0.5", JSON),
        ("text/csv, */*", CSV),
        ("*/*, text/csv;q=0.9", JSON),
        ("application/json, text/plain, */*", JSON),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", JSON),
        ("application/json;q=0, */*;q=0.1", CSV),
        ("text/*;q=0.3, text/csv;q=0, application/json;q=0", EVENTS),
        ("*/*;q=0", None),
        ("image/png", None),
        ('text/x;a="b, text/csv", application/json', JSON),
        (" , ,text/csv,", CSV),
        ("text/csv;;q=0.2", CSV),
        # What is no member says nothing, and nothing said is everything welcome.
        ("csv", JSON),
        ("text/csv;q=2", JSON),
        ("text/csv;q=0.1234", JSON),
        ("*/csv", JSON),
        ("text/csv junk", JSON),
    ],
)
def test_preferred(header, expected):
    assert preferred(header, OFFERED) == expected


def test_the_members_in_order():
    assert media_ranges("a/B;q=0.25, */*; x=\"1,2\"; q=0 , c/*") == [
        MediaRange("a", "b", 0.25), MediaRange("*", "*", 0.0), MediaRange("c", "*", 1.0),
    ]  # fmt: skip


@given(header=st.text(max_size=60) | st.text('abc/*;,q=01."\\ ', max_size=60))
def test_any_text_is_a_header(header):
    assert preferred(header, OFFERED) in (*OFFERED, None)


qualities = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)


@given(worth=st.dictionaries(st.sampled_from(OFFERED), qualities, min_size=1), rest=qualities)
def test_the_greatest_quality_wins(worth, rest):
    members = [f"{name};q={quality:.3f}" for name, quality in worth.items()]
    found = preferred(", ".join([*members, f"*/*;q={rest:.3f}"]), OFFERED)
    quality = {name: worth.get(name, rest) for name in OFFERED}
    if max(quality.values()) == 0:
        assert found is None
    else:
        assert found is not None
        assert quality[found] == max(quality.values())


@given(names=st.permutations(OFFERED))
def test_among_equals_the_first_named_wins(names):
    assert preferred(", ".join(names), OFFERED) == names[0]


def test_forms_answer_under_the_name_that_was_asked_for():
    assert asked_form(None) == (JSON, JSON)
    assert asked_form(b"*/*") == (JSON, JSON)
    assert asked_form(None, True) == (LINES, LINES)
    assert asked_form(b"*/*", True) == (LINES, LINES)
    assert asked_form(b"application/json", True) == (JSON, JSON)
    assert asked_form(b"application/jsonlines") == (LINES, "application/jsonlines")
    for name in FORMS:
        assert asked_form(name.encode()) == (name, name)
    for other, name in ALIASES.items():
        assert asked_form(other.encode()) == (name, other)
    assert asked_form(f"{NPY};q=0.2, {ARROW};q=0.3".encode()).name == ARROW
    with pytest.raises(NotAcceptable, match=r"takes none of application/json, .*text/event-stream"):
        asked_form(b"image/png")
