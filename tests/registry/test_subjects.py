"""Keys of subjects: made once, destroyed for good, and nothing of them is left in the files."""

from datetime import timedelta
from pathlib import Path

from servable.registry.home import open_home
from servable.testing import FakeClock

ANN, BOB = "a" * 32, "b" * 32
KEY, OTHER = b"key of ann, wrapped" * 3, b"another key"


def test_the_first_key_of_a_subject_holds(home: Path) -> None:
    with open_home(home) as place:
        assert place.subjects.ensure({ANN: KEY}).keys == {ANN: KEY}
        found = place.subjects.ensure({ANN: OTHER, BOB: OTHER})
        assert (dict(found.keys), dict(found.erased)) == ({ANN: KEY, BOB: OTHER}, {})
        assert place.subjects.find([ANN, "nobody"]).keys == {ANN: KEY}
        many = {f"{number:032d}": OTHER for number in range(2_000)}
        assert place.subjects.ensure(many).keys == many
        assert place.subjects.find(list(many)).keys == many


def test_new_keys_disturb_no_server_and_an_erasure_tells_all(home: Path) -> None:
    with open_home(home) as place:
        token = place.change_token()
        place.subjects.ensure({ANN: KEY})
        assert (place.change_token(), place.subjects.stamp()) == (token, "")
        assert place.subjects.erase([ANN, BOB], at=17) == 1
        assert place.change_token() != token
        stamp = place.subjects.stamp()
        assert place.subjects.erase([ANN], at=18) == 0
        assert int(place.subjects.stamp()) > int(stamp)
        found = place.subjects.find([ANN, BOB])
        assert (dict(found.keys), dict(found.erased)) == ({}, {ANN: 18, BOB: 17})
        # Whoever comes again gets a new key, and what was taken before must not be kept still.
        again = place.subjects.ensure({ANN: OTHER})
        assert (dict(again.keys), dict(again.erased)) == ({ANN: OTHER}, {ANN: 18})


def test_no_byte_of_a_destroyed_key_is_left_in_the_files(home: Path) -> None:
    with open_home(home) as place, open_home(home) as other:
        place.subjects.ensure({f"{number:032d}": KEY for number in range(500)})
        other.subjects.ensure({ANN: OTHER})
        place.subjects.erase([f"{number:032d}" for number in range(500)], at=1)
        assert place.state.scrub()
        files = [path.read_bytes() for path in home.iterdir() if path.is_file()]
        assert not any(KEY.hex().encode() in content for content in files)
        assert any(OTHER.hex().encode() in content for content in files)
        assert other.subjects.find([ANN]).keys == {ANN: OTHER}


def test_keys_go_when_nothing_is_sealed_under_them_any_more(home: Path) -> None:
    clock = FakeClock()
    with open_home(home, clock=clock) as place:
        place.subjects.ensure({ANN: KEY, BOB: OTHER})
        place.subjects.erase(["c" * 32], at=round(clock.now().timestamp() * 1e6))
        clock.advance(timedelta(days=5).total_seconds())
        place.subjects.ensure({BOB: KEY})
        assert place.subjects.forget_before(clock.now() - timedelta(days=4)) == 1
        assert place.subjects.find([ANN, BOB]).keys == {BOB: OTHER}
        assert place.subjects.stamp() == ""


def test_a_deployment_says_whom_its_rows_are_about(home: Path) -> None:
    with open_home(home) as place:
        assert not place.subjects.declares("nothing")
