"""Several workers behind the local engine: start, failures, restarts."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import httpx
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
import uvloop
from tritonclient.utils import InferenceServerException

import servable
from servable.engines.local import LocalServer, serve
from servable.engines.supervisor import Supervisor, pause
from servable.errors import ModelNotFound, PortInUse, SettingInvalid
from servable.registry.home import open_home
from servable.settings import ServerSettings
from serving.making import publish_iris

ROW = {"input": [5.1, 3.5, 1.4, 0.2]}


@pytest.fixture
def filled(home: Path) -> Path:
    publish_iris(home)
    return home


def settings_of(home: Path, **more: object) -> ServerSettings:
    return ServerSettings(home=str(home), port=0, workers=2, **more)


def test_workers_follow_the_registry(filled: Path) -> None:
    with LocalServer(settings_of(filled, poll_s=0.05)) as server:
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        assert httpx.post(f"{server.url}/models/iris/predict", json=ROW).json()["version"] == 1
        publish_iris(filled)
        in_a_row = 0
        # Each worker follows by itself; new connections go to both.
        while in_a_row < 10:
            version = httpx.post(f"{server.url}/models/iris/predict", json=ROW).json()["version"]
            in_a_row = in_a_row + 1 if version == 2 else 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/healthz")


def states(url: str) -> set[str]:
    """The state of the model in both workers; the ids of requests begin alike in one process."""
    found: dict[str, str] = {}
    while len(found) < 2:
        # Connections that stay open lead the next ones to the other worker.
        with contextlib.ExitStack() as opened:
            for _ in range(4):
                answer = opened.enter_context(httpx.Client()).get(f"{url}/models/iris")
                found[answer.headers["x-request-id"][:12]] = answer.json()["state"]
    return set(found.values())


@pytest.mark.parametrize("form", ["REST", "gRPC"])
def test_a_model_is_loaded_and_unloaded_in_every_worker(filled: Path, form: str) -> None:
    with LocalServer(settings_of(filled, memory=2**31)) as server:
        place = server.url.removeprefix("http://")
        caller: Any = triton_http if form == "REST" else triton_grpc
        with contextlib.closing(caller.InferenceServerClient(place)) as client:
            assert states(server.url) == {"cold"}
            for _ in range(3):
                client.load_model("iris")
                assert states(server.url) == {"live"}
                client.unload_model("iris")
                assert states(server.url) == {"cold"}
            with pytest.raises(InferenceServerException, match="nope"):
                client.load_model("nope")


def test_what_cannot_be_served_is_said_as_by_one_process(filled: Path) -> None:
    with pytest.raises(ModelNotFound, match="nope"):
        serve(["nope"], settings=settings_of(filled), background=True)
    with pytest.raises(SettingInvalid, match="allow-unauthenticated"):
        serve(settings=settings_of(filled, host="0.0.0.0"), background=True)
    with open_home(filled) as opened:
        graph = opened.packages.folder(opened.models.resolve("iris").package) / "model.onnx"
    graph.chmod(0o644)
    graph.write_bytes(b"x")
    with pytest.raises(servable.ServableError) as caught:
        serve(settings=settings_of(filled), background=True)
    assert caught.value.code == "artifact_tampered"


def test_a_taken_port_is_said(filled: Path) -> None:
    with LocalServer(settings_of(filled)) as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(PortInUse, match=f"Port {port}"):
            serve(settings=ServerSettings(home=str(filled), port=port, workers=2), background=True)


def test_a_restart_replaces_every_worker_and_loses_nothing(filled: Path) -> None:
    async def course() -> None:
        loop = asyncio.get_running_loop()
        supervisor = Supervisor(settings_of(filled), (), servable.__version__, logs=False)
        started = loop.create_future()
        running = asyncio.create_task(supervisor.run(started))
        await started
        before = supervisor.pids
        codes: list[int] = []
        over = asyncio.Event()

        async def call() -> None:
            async with httpx.AsyncClient() as client:
                while not over.is_set():
                    codes.append((await client.post(f"{supervisor.url}/predict", json=ROW)).status_code)

        calling = asyncio.create_task(call())
        assert await supervisor.restart()
        assert not set(before) & set(supervisor.pids)
        assert len(supervisor.pids) == 2
        # A successor that cannot start leaves the one before in its place.
        after = supervisor.pids
        broken = settings_of(filled / "nowhere" / "model.onnx", database_url="nonsense://")
        assert not await supervisor.restart(broken)
        assert supervisor.pids == after
        over.set()
        await calling
        assert set(codes) == {200}
        counted = (await supervisor.totals()).models[0].codes
        assert counted == {"ok": len(codes)}
        supervisor.stop()
        await running
        assert supervisor.pids == ()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(course())


def test_pauses_grow_and_stay_bounded() -> None:
    pauses = [pause(deaths) for deaths in range(1, 2000)]
    assert pauses[0] == 0.0
    assert pauses == sorted(pauses)
    assert 5.0 < pauses[-1] <= 60.0
