"""The steps of ``servable demo``. A step that does not hold raises, so exit code 0 means that all held."""

import shlex
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from rich.markup import escape
from rich.panel import Panel

from servable.cli import tables
from servable.cli.output import Screen
from servable.client import Client, Predictions
from servable.errors import DependencyMissing, GateFailed, ParityFailed, StorageFailed, converted

if TYPE_CHECKING:
    from servable.engines.local import LocalServer
    from servable.workflows.outcomes import TrainOutcome

NAME = "breast-cancer"
TARGET = "diagnosis"
#: Every fifth row is never shown to training.
_HELD_OUT = 5
#: What the model has to reach on those rows; a linear model reaches 0.95 and more.
_MIN_ACCURACY = 0.9
#: Seconds for each of the two searches.
SEARCH_S = 8.0
_TOLERANCE = 1e-4


class Demo:
    """The whole main job, once.

    Args:
        screen: where it is shown.
        home: folder of the demo's registry, packages and data.
        port: to serve on, 0 for a free one.
    """

    def __init__(self, screen: Screen, home: Path, port: int) -> None:
        self._screen = screen
        self._home = home
        self._port = port
        self._step = 0
        self._started = time.monotonic()

    def run(self, *, serve_on: bool) -> None:
        """All steps; then, if asked, serve until Ctrl-C.

        Raises:
            ServableError: a step did not hold.
        """
        server = self._server()
        try:
            train_file, unseen_file = self._data()
            best = self._compare(train_file)
            outcome = self._train(train_file, best)
            self._evaluate(outcome, unseen_file)
            self._packaged(outcome)
            self._proven()
            self._deploy(outcome)
            self._title("Serve over HTTP")
            server.start()
            self._screen.out.print(f"  {server.url} answers")
            row, answer, rows = self._call(server.url, outcome, unseen_file)
            self._summary(server.url, outcome, row, answer, rows)
            if serve_on:
                self._screen.out.print("Serving until Ctrl-C.")
                _wait_for_interrupt()
        finally:
            server.stop()

    def _title(self, text: str) -> None:
        """The head of the next step."""
        self._step += 1
        self._screen.out.rule(f"[bold cyan]{self._step}[/bold cyan] {text}", align="left", style="dim")

    def _server(self) -> "LocalServer":
        """The server, not started; a port in use is found before any work is done."""
        from servable.engines.local import LocalServer
        from servable.server.lifecycle import bind
        from servable.settings import load_settings

        settings = load_settings({"home": self._home, "port": self._port, "host": "127.0.0.1"})
        bind(settings.host, settings.port).close()
        return LocalServer(settings, only=[NAME])

    def _data(self) -> tuple[Path, Path]:
        """Write the two CSV files: the rows for training, and those that it never sees."""
        with converted(
            {ModuleNotFoundError: DependencyMissing},
            "The demo trains a model and needs more ({}); run: pip install 'servable[train]'",
        ):
            from sklearn.datasets import load_breast_cancer

        bunch = load_breast_cancer(as_frame=True)
        frame = bunch.data.copy()
        frame[TARGET] = np.asarray(bunch.target_names)[bunch.target]
        held_out = np.arange(len(frame)) % _HELD_OUT == 0
        folder = self._home / "data"
        with converted({OSError: StorageFailed}, "The demo cannot write its data: {}."):
            folder.mkdir(parents=True, exist_ok=True)
            paths = folder / "breast_cancer.csv", folder / "breast_cancer_unseen.csv"
            frame[~held_out].to_csv(paths[0], index=False)
            frame[held_out].to_csv(paths[1], index=False)
        self._screen.out.print(
            f"[bold]Breast cancer, Wisconsin[/bold]: {len(frame)} tumours, "
            f"{frame.shape[1] - 1} measurements; {int(held_out.sum())} are kept away from training.\n"
            f"{escape(str(paths[0]))}"
        )
        return paths

    def _compare(self, data: Path) -> str:
        """Step: the leaderboard; gives the winner."""
        from servable.workflows.select import select

        self._title("Compare candidates by cross-validation")
        with self._screen.progress() as progress:
            board = select(data, target=TARGET, folds=3, time_budget_s=SEARCH_S, progress=progress)
        self._screen.out.print(next(tables.leaderboard(board)))
        return board.entries[0].name

    def _train(self, data: Path, candidate: str) -> "TrainOutcome":
        """Step: tune and train the winner, compile it, prove it, and keep it."""
        from servable.workflows.train import train

        self._title(f"Train the best: {escape(candidate)}")
        with self._screen.progress() as progress:
            return train(
                data,
                target=TARGET,
                name=NAME,
                model=candidate,
                time_budget_s=SEARCH_S,
                tolerance=_TOLERANCE,
                home=self._home,
                progress=progress,
            )

    def _evaluate(self, outcome: "TrainOutcome", unseen: Path) -> None:
        """Step: the metrics on rows that neither selection nor training saw, held against a gate.

        Raises:
            GateFailed: the gate was not reached.
        """
        from servable.workflows.evaluate import evaluate

        self._title("Evaluate on rows that it never saw")
        with self._screen.progress() as progress:
            found = evaluate(
                f"{NAME}:{outcome.version}",
                unseen,
                minimums={"accuracy": _MIN_ACCURACY},
                home=self._home,
                progress=progress,
            )
        self._screen.out.print(tables.metrics(found.metrics, found.intervals))
        if not found.passed:
            raise GateFailed(" ".join(found.failed))

    def _packaged(self, outcome: "TrainOutcome") -> None:
        """Step: the package, whose digests are verified by opening it."""
        from servable.artifact.package import open_package

        self._title("Package")
        package = open_package(Path(outcome.package))
        size = sum(entry.size for entry in package.manifest.files)
        self._screen.out.print(
            f"  {NAME}:{outcome.version}, {len(package.manifest.files)} files, {size / 1024:.0f} KiB, "
            f"every SHA-256 verified\n  {escape(outcome.package)}"
        )

    def _proven(self) -> None:
        """Step: the compiled forms, their proofs and their speed."""
        from servable.workflows.look import describe

        self._title("Compile and prove equal")
        about = describe(NAME, home=self._home)
        self._screen.out.print(tables.variants(about.variants))

    def _deploy(self, outcome: "TrainOutcome") -> None:
        """Step: desired state."""
        from servable.workflows.deploy import deploy

        self._title("Deploy")
        done = deploy(f"{NAME}:{outcome.version}", default=True, home=self._home)
        self._screen.out.print(next(tables.deployed(done)))

    def _call(self, url: str, outcome: "TrainOutcome", unseen: Path) -> tuple[list[Any], Any, int]:
        """Step: ask for every held-out row through HTTP and compare with the trained pipeline.

        Returns:
            The first row, its answer, and how many rows were compared.

        Raises:
            ParityFailed: an answer differs.
        """
        from servable.training.table import read_table

        self._title("Call it, and compare with the trained pipeline")
        frame = read_table(unseen).drop(columns=[TARGET])
        with Client(url) as client:
            client.wait_until_ready(15.0)
            row = [float(value) for value in frame.iloc[0]]
            answer = client.predict(None, row)
            served = client.predict(NAME, frame)
        labels, worst = _differences(Path(outcome.package), frame, served)
        if labels or worst > _TOLERANCE:
            raise ParityFailed(
                f"The served answers differ from the trained pipeline's: {labels} labels, probabilities "
                f"by up to {worst:.1e}; please report this."
            )
        self._screen.out.print(
            f"  {len(served)} of {len(served)} labels equal, probabilities within {worst:.1e}"
        )
        return row, answer, len(served)

    def _summary(self, url: str, outcome: "TrainOutcome", row: list[Any], answer: Any, rows: int) -> None:
        """The end: what stands there now, and what to do with it."""
        body = msgspec.json.encode({"input": row}).decode()
        curl = f"curl -s {url}/predict -H 'content-type: application/json' -d {shlex.quote(body)}"
        share = (answer.probabilities or {}).get(str(answer.prediction))
        sure = "" if share is None else f" ({share:.1%})"
        seconds = time.monotonic() - self._started
        self._screen.out.print(
            Panel(
                f"[bold green]{escape(str(answer.prediction))}[/bold green]{sure}, answered by "
                f"{escape(answer.model)}:{answer.version} as {escape(outcome.serving)}; equal to the trained "
                f"pipeline on all {rows} rows asked.\n\n"
                f"Try it    {url}/docs\n"
                f"Report    {url}/models/{NAME}/report\n"
                f"          {escape(outcome.report)}\n"
                f"Models    servable models --home {escape(str(self._home))}\n\n"
                "The line below asks the same from a shell.",
                title=f"From data to a proven API in {seconds:.0f} s",
                title_align="left",
                border_style="green",
            )
        )
        self._screen.out.print(curl, soft_wrap=True, markup=False)


def _differences(package_folder: Path, frame: Any, served: Predictions) -> tuple[int, float]:
    """How many labels differ between the trained pipeline and the server, and the largest probability gap."""
    from servable.artifact.manifest import TRAINED
    from servable.artifact.package import open_package
    from servable.frameworks.frame import pack
    from servable.frameworks.lookup import adapter
    from servable.tensors import PREDICTION, PROBABILITIES

    package = open_package(package_folder)
    variant = package.manifest.variant(TRAINED)
    trained = adapter(variant.format).load(
        package.folder, variant, package.signature, trust=package.manifest.trusted
    )
    try:
        arrays = trained.predict(pack(frame, package.signature))
    finally:
        trained.close()
    classes = package.signature.classes
    expected = [classes[index] for index in arrays[PREDICTION]]
    labels = sum(one != other for one, other in zip(expected, served.predictions, strict=True))
    if served.probabilities is None:
        return labels, 0.0
    got = np.array([[one[str(label)] for label in classes] for one in served.probabilities], dtype=float)
    return labels, float(np.abs(got - arrays[PROBABILITIES]).max())


def _wait_for_interrupt() -> None:
    """Return at Ctrl-C or when the process is asked to end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return
