from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from servable.artifact.sample import read_sample, write_sample
from servable.errors import ArtifactUnreadable
from thoroughness import examples

TEXTS = st.text(alphabet=st.characters(codec=None), max_size=6)


@given(
    texts=st.lists(st.tuples(TEXTS, TEXTS), max_size=5),
    name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
)
@settings(
    max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_rows_come_back_as_they_were(tmp_path: Path, texts: list[tuple[str, str]], name: str) -> None:
    strings = np.empty((len(texts), 2), dtype=object)
    for row, pair in enumerate(texts):
        strings[row] = pair
    numbers = np.full((len(texts), 3), np.nan)
    write_sample(tmp_path, {"numbers": numbers, f"s{name}": strings, "image": np.zeros((2, 4, 4), np.uint8)})
    back = read_sample(tmp_path)
    assert np.array_equal(back["numbers"], numbers, equal_nan=True)
    assert back["image"].dtype == np.uint8
    assert back["image"].shape == (2, 4, 4)
    assert back[f"s{name}"].dtype == object
    assert back[f"s{name}"].shape == strings.shape
    assert back[f"s{name}"].tolist() == strings.tolist()


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    arrays = {"file": np.arange(6.0).reshape(3, 2), "strings": np.array([["a"], ["b\0"], [""]])}
    write_sample(tmp_path, arrays)
    first = (tmp_path / "sample.npz").read_bytes()
    write_sample(tmp_path, arrays)
    assert (tmp_path / "sample.npz").read_bytes() == first


def test_only_texts_may_be_objects(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="strings"):
        write_sample(tmp_path, {"strings": np.array([["a"], [None]], dtype=object)})
    assert not (tmp_path / "sample.npz").exists()


def test_missing_and_damaged_samples(tmp_path: Path) -> None:
    with pytest.raises(ArtifactUnreadable, match="no sample"):
        read_sample(tmp_path)
    write_sample(tmp_path, {"strings": np.array([["a"]], dtype=object)})
    whole = (tmp_path / "sample.npz").read_bytes()
    middle = whole.index(b"e:strings")
    spoilt = whole[: middle - 40] + bytes(10) + whole[middle - 30 :]
    for data in (b"", b"PK\x03\x04", whole[: len(whole) // 2], spoilt):
        (tmp_path / "sample.npz").write_bytes(data)
        with pytest.raises(ArtifactUnreadable, match="damaged"):
            read_sample(tmp_path)


def test_no_pickle_in_a_sample(tmp_path: Path) -> None:
    np.savez(tmp_path / "sample.npz", **{"n:x": np.array([{}], dtype=object)})
    with pytest.raises(ArtifactUnreadable):
        read_sample(tmp_path)
