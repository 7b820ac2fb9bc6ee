"""Shared memory: seen by both sides, growing, never shrinking, and gone with its descriptors."""

import os
from pathlib import Path

import numpy as np
import pytest

from servable.errors import ModelDied
from servable.runtime.arena import FIRST_SIZE, KEPT_SIZE, Area


def test_both_sides_see_the_same_and_follow_growth() -> None:
    ours = Area.make("test")
    theirs = Area(os.dup(ours.descriptor))
    for size in (10, FIRST_SIZE, FIRST_SIZE + 1, 5 * FIRST_SIZE, 100):
        ours.to_write(size)[:size] = bytes([size % 251]) * size
        seen = theirs.to_read(size)
        assert len(seen) == size
        assert seen.readonly
        assert seen[0] == seen[-1] == size % 251
    ours.close()
    theirs.close()


def test_an_array_outlives_the_mapping_that_it_looks_at() -> None:
    area = Area.make("test")
    area.to_write(64)[:8] = np.float64(2.5).tobytes()
    array = np.ndarray((1,), np.float64, area.to_read(8))
    area.to_write(4 * FIRST_SIZE)
    area.close()
    assert array.tolist() == [2.5]
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1.0


def test_it_cannot_be_shrunk_under_a_reader() -> None:
    area = Area.make("test")
    with pytest.raises(PermissionError):
        os.ftruncate(area.descriptor, 1)
    area.close()


def test_more_than_is_there_is_refused() -> None:
    area = Area.make("test")
    with pytest.raises(ModelDied, match="not there"):
        area.to_read(FIRST_SIZE + 1)
    area.close()


def test_memory_of_a_large_batch_is_given_back() -> None:
    area = Area.make("test")
    size = 4 * KEPT_SIZE
    area.to_write(size)[:size] = b"x" * size
    before = os.fstat(area.descriptor).st_blocks
    area.relax()
    assert os.fstat(area.descriptor).st_blocks * 512 <= KEPT_SIZE < before * 512
    assert bytes(area.to_read(1)) == b"x"
    area.close()


def held() -> tuple[list[str], int]:
    """What lies in /dev/shm of ours, and how many descriptors are open."""
    names = [each.name for each in Path("/dev/shm").iterdir() if "left" in each.name]
    return names, len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_left_behind() -> None:
    before = held()
    areas = [Area.make("left") for _ in range(20)]
    for area in areas:
        area.to_write(100)[:1] = b"x"
        area.close()
    assert held() == before
    assert "memfd:left" not in Path("/proc/self/maps").read_text()
