"""Whether anybody wrote: asked without waiting, and never answered no wrongly."""

import sqlite3
from pathlib import Path

from servable.registry.home import open_home
from servable.registry.pulse import UnknownPulse, pulse_of
from servable.registry.records import DATABASE


def written(home: Path) -> None:
    connection = sqlite3.connect(home / DATABASE)
    with connection:
        connection.execute("UPDATE changes SET number = number + 1")
    connection.close()


def test_it_moves_at_the_first_look_and_then_with_every_write(tmp_path: Path) -> None:
    open_home(tmp_path).close()
    pulse = pulse_of(tmp_path)
    assert pulse.moved()
    assert not pulse.moved()
    for _ in range(3):
        written(tmp_path)
        assert pulse.moved()
        assert not pulse.moved()
    pulse.close()


def test_two_of_them_see_the_same_write(tmp_path: Path) -> None:
    open_home(tmp_path).close()
    pulses = [pulse_of(tmp_path), pulse_of(tmp_path)]
    assert all(pulse.moved() for pulse in pulses)
    written(tmp_path)
    assert [pulse.moved() for pulse in pulses] == [True, True]
    assert [pulse.moved() for pulse in pulses] == [False, False]
    for pulse in pulses:
        pulse.close()


def test_a_write_that_is_going_on_makes_nobody_wait_and_is_seen_once_it_is_over(tmp_path: Path) -> None:
    open_home(tmp_path).close()
    pulse = pulse_of(tmp_path)
    assert pulse.moved()
    writer = sqlite3.connect(tmp_path / DATABASE, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE changes SET number = number + 1")
    assert not pulse.moved()
    writer.execute("COMMIT")
    assert pulse.moved()
    writer.close()
    pulse.close()


def test_where_no_database_is_it_is_unknown_until_there_is_one(tmp_path: Path) -> None:
    pulse = pulse_of(tmp_path)
    assert pulse.moved()
    assert pulse.moved()
    assert not (tmp_path / DATABASE).exists()
    open_home(tmp_path).close()
    assert pulse.moved()
    assert not pulse.moved()
    pulse.close()


def test_what_is_closed_moves_again(tmp_path: Path) -> None:
    open_home(tmp_path).close()
    pulse = pulse_of(tmp_path)
    assert pulse.moved()
    pulse.close()
    assert pulse.moved()
    pulse.close()


def test_of_another_database_nothing_is_known(tmp_path: Path) -> None:
    pulse = pulse_of(tmp_path, "postgresql://somewhere/registry")
    assert isinstance(pulse, UnknownPulse)
    assert pulse.moved()
    assert pulse.moved()
    pulse.close()
