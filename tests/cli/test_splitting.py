"""``servable deploy --split``: what is kept, shown and refused."""

import json
from pathlib import Path

import pytest

import servable
from servable.cli.options import split
from servable.cli.wording import shares
from servable.errors import SettingInvalid, VersionNotFound
from servable.registry.home import open_home
from servable.registry.records import Share, Traffic
from serving.making import publish_iris


@pytest.fixture
def three(home: Path) -> Path:
    """Three versions of iris, none of them deployed."""
    for _ in range(3):
        publish_iris(home, deploy=False)
    return home


def test_a_division_is_kept_shown_and_ended(invoke, three: Path) -> None:
    invoke("deploy", "iris:1")
    done = invoke("deploy", "iris", "--split", "1=95,2=5%", "--sticky", "X-Customer", "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["version"], told["shares"]) == (1, {"1": 0.95, "2": 0.05})
    assert told["policy"] == {"sticky": "X-Customer"}
    assert "v1 95 % v2 5 %" in " ".join(invoke("status").stdout.split())
    about = " ".join(invoke("describe", "iris:2").stdout.split())
    assert "answers 5 % of the requests" in about
    assert "kept with a version by X-Customer" in about
    assert "v1 50 % v2 50 %" in " ".join(invoke("deploy", "iris", "--split", "1=2,2=2").stdout.split())
    done = invoke("deploy", "iris", "--split", "none", "--json")
    assert (json.loads(done.stdout)["version"], json.loads(done.stdout)["shares"]) == (1, {})
    assert "traffic" not in invoke("status").stdout


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("1", "--split takes versions and their weights"),
        ("a=1", "--split takes versions and their weights"),
        ("1=x", "--split takes versions and their weights"),
        ("1=1,1=2", "names version 1 twice"),
        ("1=0,2=1", "must be above 0"),
        ("1=nan", "must be above 0"),
        ("1=1,9=1", "has no version 9"),
    ],
)
def test_what_cannot_be_followed_is_refused_and_changes_nothing(invoke, three: Path, given, words) -> None:
    invoke("deploy", "iris:1")
    before = servable.status(home=three)
    done = invoke("deploy", "iris", "--split", given)
    assert done.exit_code != 0
    assert words in " ".join(done.stderr.split())
    assert servable.status(home=three) == before


def test_which_version_is_the_deployments_own(three: Path) -> None:
    assert servable.deploy("iris", split={1: 30, 3: 70}, home=three).version == 3
    assert servable.deploy("iris:2", split={1: 30, 3: 70}, home=three).version == 2
    assert servable.deploy("iris", split={1: 50, 3: 50}, home=three).version == 2
    assert servable.rollback("iris", home=three).shares == {}
    assert servable.deploy("iris:1", home=three).shares == {}
    with pytest.raises(VersionNotFound):
        servable.deploy("iris", split={9: 1}, home=three)
    servable.undeploy("iris", home=three)
    assert servable.deploy("iris", split={}, home=three).version == 3


def test_a_shadow_stays_when_shares_change(three: Path) -> None:
    with open_home(three) as opened:
        opened.deployments.deploy("iris", 1)
        opened.deployments.divide("iris", Traffic(shadow=3, mirrored=0.5))
        servable.deploy("iris", split={1: 90, 2: 10}, home=three)
        found = opened.deployments.get("iris")
        assert found is not None
        shares_then = (Share(version=1, weight=90), Share(version=2, weight=10))
        assert found.traffic == Traffic(shares=shares_then, shadow=3, mirrored=0.5)
        servable.deploy("iris", split={1: 90, 3: 10}, home=three)
        found = opened.deployments.get("iris")
        assert found is not None
        assert found.traffic.shadow == 0


def test_pure_parts() -> None:
    assert split(None) is None
    assert split("None") == {}
    assert split(" 3=95 , 4=5% ") == {3: 95.0, 4: 5.0}
    assert shares({4: 0.05, 3: 0.95}) == "v3 95 %  v4 5 %"
    with pytest.raises(SettingInvalid):
        split("")
