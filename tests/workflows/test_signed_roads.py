"""Every road on which a version comes to requests asks for its signature before it changes anything.

A new road shows up in ``test_all_roads_are_known``: give it the check, then name it here.
"""

import ast
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import servable
from artifact import making
from servable.artifact.bundles import make_keys
from servable.errors import SignatureRefused
from servable.registry.home import open_home, publish
from servable.workflows.deploy import deploy, rollback
from servable.workflows.rollouts import Action, change_rollout
from servable.workflows.signing import sign

SOURCE = Path(servable.__file__).parent
#: What gives requests to a version, by the class or module that offers it.
GIVERS = {
    "deploy",
    "divide",
    "rollback",
    "republish",
    "start_canary",
    "start_shadow",
    "start_bandit",
    "steer",
}
#: Who calls them, and where the signature is asked for.
ROADS = {
    "workflows/deploy.py:_deployed": "itself, for every version that the division names",
    "workflows/deploy.py:rollback": "itself",
    "workflows/rollouts.py:begin": "itself, for canaries, shadows and bandits",
    "workflows/rollouts.py:change_rollout": "itself, for advance and resume",
    "workflows/train.py:_trained": "itself, once it signed",
    "workflows/add.py:_added": "itself, once it signed",
    "workflows/optimize.py:_optimised": "itself, once it signed; and before by whom it has signed",
    "updating/steps.py:deployed": "itself; by a rollout in workflows/rollouts.py:begin",
    "rollout/starting.py:start_shadow": "workflows/rollouts.py:begin, the only one that calls it",
    "rollout/starting.py:_begin": "workflows/rollouts.py:begin, the only one that calls those that call it",
    "rollout/controller.py:apply": "when it began; servers refuse to load what is no longer in order",
    "rollout/weighing.py:weigh": "when it began; servers refuse to load what is no longer in order",
}


def test_all_roads_are_known() -> None:
    found = set()
    for path in SOURCE.rglob("*.py"):
        place = path.relative_to(SOURCE).as_posix()
        if place.startswith("registry/"):
            continue  # What is called, not who calls.
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and _gives(function):
                found.add(f"{place}:{function.name}")
    assert found == set(ROADS)


def _gives(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function calls what gives requests to a version, in the registry or in the plans."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Attribute) and called.attr in GIVERS:
            if ast.unparse(called.value).endswith("deployments"):
                return True
        elif isinstance(called, ast.Name) and called.id in GIVERS - {"deploy", "rollback", "divide"}:
            return True
    return False


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_keys(tmp_path / "release.pem")
    return tmp_path / "release.pem"


@pytest.fixture
def home(tmp_path: Path, key: Path) -> Path:
    """Three versions of a model; the first two are signed, and were deployed one after the other."""
    with open_home(tmp_path / "home") as place:
        for number in range(3):
            with place.packages.staging() as folder:
                making.fill(folder, b"version %d" % number)
                publish(place, folder, making.manifest())
    for version in (1, 2):
        sign(f"churn:{version}", key=key, home=tmp_path / "home")
        deploy(f"churn:{version}", home=tmp_path / "home")
    return tmp_path / "home"


def policy(monkeypatch: pytest.MonkeyPatch, key: Path, name: str) -> None:
    monkeypatch.setenv("SERVABLE_SIGNATURES", name)
    monkeypatch.setenv("SERVABLE_TRUSTED_KEYS", str(key.with_suffix(".pub")))


def unsigned(home: Path, version: int) -> None:
    for path in (home / "signatures").glob(f"*/churn.{version}.json"):
        path.unlink()


#: What begins a road to version 3, which nobody signed.
BEGUN: dict[str, Callable[[Path], object]] = {
    "deploy": lambda home: deploy("churn:3", home=home),
    "traffic weights": lambda home: deploy("churn", split={2: 95, 3: 5}, home=home),
    "canary": lambda home: deploy("churn:3", canary="5,100", home=home),
    "shadow": lambda home: deploy("churn:3", shadow=True, home=home),
    "bandit": lambda home: deploy("churn", bandit=[3], home=home),
}


@pytest.mark.parametrize("road", BEGUN)
def test_what_nobody_signed_gets_no_request(
    road: str, home: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy(monkeypatch, key, "require")
    with open_home(home) as place:
        before = place.deployments.get("churn")
    with pytest.raises(SignatureRefused, match="servable sign churn:3 --key"):
        BEGUN[road](home)
    with open_home(home) as place:
        assert place.deployments.get("churn") == before
        assert not place.rollouts.of("churn")
    sign("churn:3", key=key, home=home)
    BEGUN[road](home)


@pytest.mark.parametrize("road", BEGUN)
def test_with_the_policy_warn_it_gets_them_and_the_log_says_so(
    road: str, home: Path, key: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    policy(monkeypatch, key, "warn")
    BEGUN[road](home)
    (record,) = [one for one in caplog.records if one.message == "the signature is not in order"]
    assert "churn:3 is not signed" in str(record.__dict__)


@pytest.mark.parametrize(
    ("road", "action"), [("canary", "advance"), ("canary", "resume"), ("bandit", "resume")]
)
def test_a_rollout_goes_no_further_once_its_version_is_not_in_order(
    road: str, action: Action, home: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign("churn:3", key=key, home=home)
    BEGUN[road](home)
    change_rollout("churn", "hold", home=home)
    unsigned(home, 3)
    policy(monkeypatch, key, "require")
    with pytest.raises(SignatureRefused, match="servable sign churn:3 --key"):
        change_rollout("churn", action, home=home)
    with open_home(home) as place:
        assert place.rollouts.going_on()[0].state == "held"
    # Whoever ends it needs no signature: the deployed version answers already.
    assert change_rollout("churn", "abort", home=home).state == "rolled_back"


def test_of_a_bandit_that_a_person_ends_the_best_version_counts(
    home: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    BEGUN["bandit"](home)
    policy(monkeypatch, key, "require")
    # Of equal shares that of the deployed version, which is signed, comes first.
    assert change_rollout("churn", "advance", home=home).state == "promoted"


def test_a_rollback_needs_one(home: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unsigned(home, 1)
    policy(monkeypatch, key, "require")
    with pytest.raises(SignatureRefused, match="servable sign churn:1 --key"):
        rollback("churn", home=home)


def test_what_is_made_and_deployed_at_once_is_told_of_too(
    tmp_path: Path,
    iris: pd.DataFrame,
    key: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy(monkeypatch, key, "warn")
    home = tmp_path / "other"

    def told() -> int:
        count = caplog.text.count("the signature is not in order")
        caplog.clear()
        return count

    servable.train(
        iris, target="species", name="iris", model="logistic", time_budget_s=0.1, deploy=True, home=home
    )
    assert told() == 1
    servable.optimize("iris:1", home=home)
    assert told() == 1

    rows = iris.drop(columns="species")
    model = LogisticRegression(max_iter=500).fit(rows, iris["species"])
    servable.add(model, name="other", sample=rows, deploy=True, home=home)
    assert told() == 1
    servable.add(model, name="other", sample=rows, home=home)
    assert told() == 0
