"""Room that is kept for erasing: really taken on the disk, given back at once, and no error without any."""

from pathlib import Path

from servable.registry.reserve import Reserve


def test_room_is_taken_and_given_back(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path)
    assert not reserve.release()
    assert reserve.keep()
    (file,) = tmp_path.iterdir()
    # Blocks, because a file with a hole would be no room.
    assert file.stat().st_blocks * 512 >= 4 * 1024 * 1024
    assert file.stat().st_mode & 0o777 == 0o600
    assert reserve.keep()
    assert reserve.release()
    assert list(tmp_path.iterdir()) == []


def test_it_grows_with_the_database(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path)
    reserve.keep()
    (tmp_path / "registry.db").write_bytes(bytes(1024 * 1024))
    assert reserve.keep()
    assert (tmp_path / "erasure.reserve").stat().st_size >= 7 * 1024 * 1024


def test_a_folder_that_takes_nothing_is_no_error(tmp_path: Path) -> None:
    assert not Reserve(tmp_path / "nowhere").keep()
