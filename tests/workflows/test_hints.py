"""What the caller of ``add`` says about a model that its file does not say."""

from pathlib import Path

import pytest

from servable.errors import FileMissing, SettingInvalid
from servable.frameworks.base import NO_HINTS
from servable.workflows.hints import hints_of


def test_nothing_said_is_nothing_known():
    assert hints_of(None) == NO_HINTS


def test_a_description_is_read_and_its_paths_are_beside_it(tmp_path: Path):
    (tmp_path / "vocabulary.txt").write_text("a\n")
    file = tmp_path / "net.toml"
    file.write_text(
        'task = "classification"\nentry = "net.py:Net"\nlabels = ["cat", "dog"]\nfiles = ["vocabulary.txt"]\n'
        '[[inputs]]\nname = "picture"\nkind = "tensor"\ndtype = "float32"\nshape = [3, 8, 8]\n'
    )
    hints = hints_of(file)
    assert (hints.task, hints.labels) == ("classification", ("cat", "dog"))
    assert hints.entry == f"{tmp_path / 'net.py'}:Net"
    assert hints.files == (tmp_path / "vocabulary.txt",)
    assert [(field.name, field.shape) for field in hints.inputs] == [("picture", (3, 8, 8))]


def test_options_win_over_the_description(tmp_path: Path):
    file = tmp_path / "net.json"
    file.write_text('{"entry": "package.module:Net", "labels": [0, 1]}')
    assert hints_of(file).entry == "package.module:Net"
    hints = hints_of(file, labels="no, yes", entry="other.py:Net")
    assert (hints.labels, hints.entry) == (("no", "yes"), "other.py:Net")


def test_labels_may_come_one_a_line(tmp_path: Path):
    file = tmp_path / "labels.txt"
    file.write_text("zero\none\n\ntwo\n")
    assert hints_of(None, labels=str(file)).labels == ("zero", "one", "two")


@pytest.mark.parametrize("labels", ["one", "a,a", "a,,b", "a,"])
def test_labels_that_are_none_are_refused(labels: str):
    with pytest.raises(SettingInvalid, match="labels"):
        hints_of(None, labels=labels)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('task = "dreaming"', "dreaming"),
        ("labels = 3", "labels"),
        ("speed = 9", "speed"),
        ("[[inputs]]\nkind = 1", "inputs"),
        ("not toml", "net.toml"),
    ],
)
def test_a_description_that_cannot_be_read_says_where(tmp_path: Path, content: str, said: str):
    file = tmp_path / "net.toml"
    file.write_text(content)
    with pytest.raises(SettingInvalid, match=said):
        hints_of(file)


def test_what_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(FileMissing, match="nowhere"):
        hints_of(tmp_path / "nowhere.toml")
    file = tmp_path / "net.toml"
    file.write_text('files = ["nowhere.bin"]')
    with pytest.raises(FileMissing, match="nowhere"):
        hints_of(file)
