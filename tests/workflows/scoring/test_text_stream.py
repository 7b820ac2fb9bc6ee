"""Text is cut behind the ends of rows, wherever it is begun, however it is held."""

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servable.workflows.scoring import text_stream
from thoroughness import examples

fields = st.text(st.sampled_from('ab,"\n\r é'), max_size=6)
tables = st.lists(st.lists(fields, min_size=2, max_size=2), min_size=1, max_size=30)


def as_csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue().encode()


@given(tables, st.integers(1, 40))
@settings(max_examples=examples(60), deadline=None)
def test_a_cut_is_behind_a_whole_row(rows: list[list[str]], length: int) -> None:
    content = as_csv(rows)
    cut = text_stream.row_end(content[:length], quoted=True)
    before = list(csv.reader(io.StringIO(content[:cut].decode(), newline="")))
    after = list(csv.reader(io.StringIO(content[cut:].decode(), newline="")))
    assert before + after == rows


@given(tables, st.integers(1, 200), st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]), st.booleans())
@settings(max_examples=examples(60), deadline=None)
def test_pieces_are_the_text_and_can_be_begun_at_each(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], step: int, encoding: str, packed: bool
) -> None:
    content = b"name,other\n" + as_csv(rows)
    held = content.decode().encode(encoding)
    path: Path = tmp_path_factory.mktemp("text") / ("t.csv.gz" if packed else "t.csv")
    path.write_bytes(gzip.compress(held) if packed else held)
    form, head = text_stream.form_of(path)
    assert head == content
    found = list(text_stream.pieces(path, form, 0, step, quoted=True))
    assert b"".join(piece.content for piece in found) == content
    for piece in found:
        later = list(text_stream.pieces(path, form, piece.start, step, quoted=True))
        assert [(each.start, each.content) for each in later] == [
            (each.start, each.content) for each in found if each.start >= piece.start
        ]
