"""Reading files: dialects, encodings, types, and every way in which a file can be unusable."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servable.artifact.signature import Field, Signature
from servable.errors import DataError, FileMissing
from servable.training.table import read_table
from thoroughness import examples


def written(folder: Path, content: str | bytes, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_columns_get_types_by_all_their_values(tmp_path):
    path = written(tmp_path, "n,f,b,t,code,gap\n1,1.5,true,a,007,1\n2,2,false,b,010,\n3,-3e2,TRUE,?,011,NA\n")
    frame = read_table(path)
    assert frame["n"].dtype == "int64"
    assert frame["f"].tolist() == [1.5, 2.0, -300.0]
    assert frame["b"].dtype == bool
    assert frame["t"].tolist() == ["a", "b", "?"]
    assert frame["code"].tolist() == ["007", "010", "011"]
    assert frame["gap"].dtype == "float64"
    assert frame["gap"].isna().tolist() == [False, True, True]


def test_one_word_among_numbers_keeps_the_column_text(tmp_path):
    assert read_table(written(tmp_path, "a,b\n1,x\n2,y\ntwo,z\n"))["a"].tolist() == ["1", "2", "two"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("name,v\nCafé,1\nMüller,2\n", "utf-8"),
        ("name,v\nCafé,1\nMüller,2\n", "utf-8-sig"),
        ("name,v\nCafé,1\nMüller,2\n", "utf-16"),
        ("name,v\nCafé,1\nMüller,2\n", "cp1252"),
        ("城市,v\n北京,1\n上海,2\n", "gb18030"),
        ("城市,v\n北京,1\n上海,2\n", "utf-8"),
    ],
)
def test_usual_encodings_are_recognised(tmp_path, text, encoding):
    frame = read_table(written(tmp_path, text.encode(encoding)))
    head, first = text.splitlines()[0].split(",")[0], text.splitlines()[1].split(",")[0]
    assert frame.columns.tolist() == [head, "v"]
    assert frame[head].iloc[0] == first


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_usual_delimiters_are_recognised(tmp_path, delimiter):
    text = "\n".join(delimiter.join(row) for row in (["a", "b", "c"], ["1", "x, y", "2"], ["3", "z", "4"]))
    frame = read_table(written(tmp_path, text if delimiter != "," else text.replace("x, y", '"x, y"')))
    assert frame["b"].tolist() == ["x, y", "z"]
    assert frame["c"].tolist() == [2, 4]


def test_decimal_commas_are_numbers_in_files_cut_at_semicolons(tmp_path):
    assert read_table(written(tmp_path, "a;b\n1,5;x\n2,25;y\n"))["a"].tolist() == [1.5, 2.25]


def test_quoted_fields_hold_commas_quotes_and_line_breaks(tmp_path):
    frame = read_table(written(tmp_path, 'a,b\n1,"x, ""y""\nz"\n2,w\n'))
    assert frame["b"].tolist() == ['x, "y"\nz', "w"]


def test_a_single_column_and_blank_lines(tmp_path):
    assert read_table(written(tmp_path, "a\nx\n\ny\n"))["a"].isna().tolist() == [False, True, False]


def test_columns_without_a_name_get_one(tmp_path):
    assert read_table(written(tmp_path, ",a\n0,x\n1,y\n")).columns.tolist() == ["unnamed_1", "a"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b" \n \n", "is empty"),
        (b"a,b\n", "no rows below"),
        (b"a,b\n1,2\n3\n", "row 3"),
        (b"a,b\n1,2\n3,4,5\n6,7\n", "row 3"),
        (b"a,a\n1,2\n", "'a' more than once"),
        (b"1,2\n3,4\n", "numbers where column names"),
        (b'a,b\n1,"x\n', "never closed"),
        (b"\x00\x01\x02\x03", "binary"),
        (bytes(range(1, 256)) * 4, "binary"),
        (b"PAR1 cut off", "Parquet"),
    ],
)
def test_an_unusable_file_is_refused_with_the_place(tmp_path, content, says):
    with pytest.raises(DataError, match=says) as caught:
        read_table(written(tmp_path, content))
    assert "rows.csv" in caught.value.message


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileMissing):
        read_table(tmp_path / "none.csv")
    with pytest.raises(DataError, match="folder"):
        read_table(tmp_path)


def test_parquet_keeps_its_types(tmp_path):
    frame = pd.DataFrame(
        {
            "n": [1, 2],
            "when": pd.to_datetime(["2024-01-01", "2024-02-01"]),
            "c": pd.Categorical(["x", "y"]),
            3: [0.5, np.nan],
        }
    )
    frame.columns = [str(name) for name in frame.columns]
    frame.to_parquet(tmp_path / "rows.parquet")
    found = read_table(tmp_path / "rows.parquet")
    assert found["n"].tolist() == [1, 2]
    assert found["when"].dtype.kind == "M"
    assert found["c"].tolist() == ["x", "y"]


def test_a_signature_settles_the_types(tmp_path):
    signature = Signature(
        task="regression",
        inputs=(
            Field(name="zip", kind="category", dtype="str"),
            Field(name="day", kind="date", dtype="datetime"),
            Field(name="n", kind="number", dtype="float64"),
        ),
        outputs=(Field(name="y", kind="number", dtype="float64"),),
    )
    path = written(tmp_path, "zip,day,n,y\n10115,03/04/2024,007,1\n80331,25/12/2024,010,2\n")
    frame = read_table(path, signature=signature)
    assert frame["zip"].tolist() == ["10115", "80331"]
    assert frame["day"].dt.month.tolist() == [4, 12]
    assert frame["n"].tolist() == [7, 10]


@settings(max_examples=examples(60), deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(-(2**40), 2**40),
            st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_what_pandas_writes_is_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("round") / "rows.csv"
    frame = pd.DataFrame({"n": [number for number, _ in rows], "t": ["t" + text for _, text in rows]})
    frame.to_csv(path, index=False)
    found = read_table(path)
    assert found["n"].tolist() == frame["n"].tolist()
    assert found["t"].tolist() == frame["t"].tolist()
