"""Two years of an electricity market, half hour by half hour, through a real server and Servable's loop.

The model says whether the price of New South Wales is up or down against its average of the last day. It is
trained on the first fifth of the rows. All others are asked over HTTP in the order of time, a day (48 rows)
in a request; their labels are fed back a day late; ``servable.update`` runs as a daily job would.

    python examples/electricity_loop/run.py elec2.csv --out out/
    python examples/electricity_loop/run.py elec2.csv --out out/ --ceiling   # training anew after every day

See README.md beside this file.
"""

import argparse
import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import report
import servable
from servable.artifact.recipe import read_recipe
from servable.registry.home import open_home
from servable.tensors import PREDICTION
from servable.updating import learning
from servable.updating.collect import fresh
from servable.updating.gate import GateRules
from servable.updating.options import UpdateOptions
from servable.updating.plan import Triggers
from servable.updating.window import Window, weights

NAME, MEASURED_ONLY, TARGET = "electricity", "electricity-measured", "class"
DAY, FIRST, CHANGE = 48, 7_248, 17_424
#: ``date`` counts on and has errors. Three columns are constant before row 17,424, and are kept all the same.
KINDS = {"date": "drop", "vicprice": "number", "vicdemand": "number", "transfer": "number"}
#: A turn after eleven days of labels; the newest two of them measure both versions. Markets move, so a row
#: counts half as much as one that is twelve weeks younger, and of two versions that cannot be told apart the
#: newer one serves.
EVERY, MEASURED, HALF_LIFE = 11 * DAY, 2 * DAY, 84 * DAY
POLICY = UpdateOptions(
    triggers=Triggers(labels=EVERY),
    window=Window(half_life=HALF_LIFE, held_out=0.0, fewest=MEASURED, most=MEASURED),
    gate=GateRules(favour="newer"),
    refit=False,
    tune=False,
)
#: Seconds to wait for a segment to be written, or for a server to follow.
PATIENCE_S = 60.0


@dataclass
class Course:
    """What was asked and answered.

    Attributes:
        requests: how many were sent.
        failed: those that were not answered as they should have been.
        right: for each row of the stream, whether the answer was right.
        versions: for each day, which version answered.
        turns: for each turn, its day and how it ended.
    """

    requests: int = 0
    failed: int = 0
    right: list[bool] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    turns: list[dict[str, Any]] = field(default_factory=list)


def main() -> None:
    asked = arguments()
    asked.out.mkdir(parents=True, exist_ok=True)
    frame = pd.read_csv(asked.data)
    home = asked.out / "home"
    started = time.monotonic()
    shutil.rmtree(home, ignore_errors=True)
    first = asked.out / "first_fifth.csv"
    frame.iloc[:FIRST].to_csv(first, index=False)
    # No time for tuning: what fits one season best is not what fits the years after it, and the recipe is the
    # same on every machine.
    # What was measured on the last fifth of these rows is trained as well, to be compared with at the end.
    for name, refit in ((NAME, True), (MEASURED_ONLY, False)):
        outcome = servable.train(
            first, name=name, target=TARGET, model="lightgbm", time_order=True, kinds=KINDS,
            time_budget_s=0.1, refit=refit, home=home,
        )  # fmt: skip
    servable.deploy(NAME, capture=1.0, home=home)
    print(
        f"trained: accuracy {outcome.metrics['accuracy']:.4f} on the last fifth of the first fifth",
        flush=True,
    )
    days = len(frame) // DAY if asked.days is None else FIRST // DAY + asked.days
    stream = frame.iloc[FIRST : days * DAY]
    with servable.serve(
        home=home, port=0, background=True, capture_interval_s=0.2, log_level="warning"
    ) as server:
        course = streamed(stream, server.url, home)
    truth = stream[TARGET].to_numpy()
    right = {"loop": np.array(course.right)}
    right |= {
        key: fixed(name, stream, home, asked.out) == truth
        for key, name in (("never", NAME), ("measured", MEASURED_ONLY))
    }
    right["rule"] = frame[TARGET].to_numpy()[FIRST - DAY : days * DAY - DAY] == truth
    # The first version was fitted twice: to be measured, and then with the rows that measured it.
    fits = {"never": 2, "measured": 1, "loop": 2 + len(course.turns), "rule": 0}
    kept = asked.out / "ceiling.npz"
    if asked.ceiling:
        np.savez(kept, right=ceiling(frame, home, days))
    if kept.exists():
        right["daily"] = np.load(kept)["right"]
        fits["daily"] = len(right["daily"]) // DAY
    found = servable.drift(f"{NAME}:1", frame.iloc[FIRST:], window=str(7 * DAY), home=home)
    facts = {
        "requests": course.requests,
        "failed": course.failed,
        "seconds": round(time.monotonic() - started, 1),
        "accuracy": {name: float(values.mean()) for name, values in right.items()},
        "trainings": fits,
        "turns": course.turns,
        "drift": report.changes(found, FIRST),
    }
    (asked.out / "facts.json").write_text(json.dumps(facts, indent=1))
    report.write(asked.out, right, facts, first=FIRST, change=CHANGE, day=DAY)
    print(json.dumps({key: value for key, value in facts.items() if key != "turns"}, indent=1))


def streamed(stream: pd.DataFrame, url: str, home: Path) -> Course:
    """Ask every day in turn, feed labels back a day late, and update when that is due."""
    course, ids, labels = Course(), [], 0
    inputs = stream.drop(columns=[TARGET, "date"])
    version = 1
    with servable.Client(url) as client:
        for day in range(len(stream) // DAY):
            rows = slice(day * DAY, (day + 1) * DAY)
            answer = asked_for(client, inputs.iloc[rows], course)
            ids.append(answer.request_id)
            course.versions.append(answer.version)
            course.right += list(np.asarray(answer.predictions) == stream[TARGET].to_numpy()[rows])
            if day == 0:
                continue
            before = slice((day - 1) * DAY, day * DAY)
            outcomes = [
                {"request_id": ids[day - 1], "row": row, "outcome": label}
                for row, label in enumerate(stream[TARGET].iloc[before])
            ]
            client.feedback_rows(NAME, outcomes)
            labels += DAY
            if day % (EVERY // DAY) == 0:
                landed(home, labels)
                turned = servable.update(NAME, POLICY, home=home)
                if turned.turn is not None:
                    whole = turned.turn.record["evaluate"]["whole"]
                    course.turns.append(
                        {"day": day, "state": turned.turn.state, "said": turned.said, **whole}
                    )
                    print(f"day {day}: {turned.turn.state}, {turned.said}", flush=True)
                    if turned.turn.state == "promoted":
                        version = turned.turn.record["register"]["version"]
                        follow(client, inputs.iloc[rows], version, course)
    return course


def asked_for(client: "servable.Client", rows: pd.DataFrame, course: Course) -> Any:
    """One request; a failed one is counted and ends the run, since its rows would have no answer."""
    course.requests += 1
    try:
        return client.predict(NAME, rows)
    except servable.ServableError:
        course.failed += 1
        raise


def follow(client: "servable.Client", rows: pd.DataFrame, version: int, course: Course) -> None:
    """Ask again and again while the server changes over, until the new version answers."""
    until = time.monotonic() + PATIENCE_S
    while asked_for(client, rows.iloc[:1], course).version != version:
        if time.monotonic() > until:
            raise SystemExit(f"the server did not follow to version {version}")


def landed(home: Path, labels: int) -> None:
    """Wait until so many labels are in segments; servers write these at intervals."""
    until = time.monotonic() + PATIENCE_S
    with open_home(home, create=False) as place:
        while fresh(place, NAME, 0) < labels:
            if time.monotonic() > until:
                raise SystemExit(f"{labels} labels were acknowledged and are not in segments yet")
            time.sleep(0.05)


def fixed(name: str, stream: pd.DataFrame, home: Path, out: Path) -> Any:
    """What the first version of a model answers to all rows."""
    rows, answers = out / "stream.csv", out / f"{name}.csv"
    stream.drop(columns=[TARGET]).to_csv(rows, index=False)
    servable.score(f"{name}:1", rows, output=answers, only_answers=True, overwrite=True, home=home)
    return pd.read_csv(answers)["prediction"].to_numpy()


def ceiling(frame: pd.DataFrame, home: Path, days: int) -> Any:
    """What the loop fits, fitted after every day on all labels known then, without a server and a gate."""
    with open_home(home, create=False) as place:
        package = place.package(place.models.resolve(f"{NAME}:1"))
    recipe = read_recipe(package.folder)
    assert recipe is not None
    fit = learning.fit_of(package, recipe)
    problem = learning.problem_of(frame.drop(columns="date"), package.signature, recipe)
    right = []
    for day in range(FIRST // DAY, days):
        known = np.arange(max((day - 1) * DAY, FIRST))
        model = learning.fitted(problem.part(known), fit, weights(len(known), POLICY.window))
        rows = np.arange(day * DAY, (day + 1) * DAY)
        answers = learning.answers_of(model, frame.iloc[rows])[PREDICTION]
        right.append(answers == problem.truth_at(rows))
        if day % 50 == 0:
            print(f"training anew after every day: day {day} of {days}", flush=True)
    return np.concatenate(right)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The loop on real data.")
    usual = Path(__file__).resolve().parents[3] / "shared" / "data" / "electricity_elec2" / "elec2.csv"
    parser.add_argument("data", type=Path, nargs="?", default=usual, help="elec2.csv; it is only read")
    parser.add_argument("--out", type=Path, required=True, help="folder for the report and the home")
    parser.add_argument("--days", type=int, help="only so many days of the stream")
    parser.add_argument("--ceiling", action="store_true", help="train after every day, too; takes minutes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
