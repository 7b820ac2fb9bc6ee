"""Both clients and a real server: frames, arrays, streams and deadlines."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pytest

import servable
from servable.errors import RemoteError
from serving.making import COLUMNS, expected, publish_heavy, publish_iris

ROWS = np.random.default_rng(0).uniform(0.1, 7.9, (50, 4))
LABELS = [expected(row.tolist())[0] for row in ROWS]
CHANCES = np.array([expected(row.tolist())[1] for row in ROWS])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home: Path = tmp_path_factory.mktemp("clients") / "home"
    publish_iris(home)
    publish_heavy(home, width=512, layers=2)
    with servable.serve(background=True, home=home, port=0) as running:
        yield running.url


@pytest.fixture
def client(url) -> Iterator[servable.Client]:
    with servable.Client(url) as made:
        yield made


def test_arrays_frames_and_plain_rows_get_the_same_answers(client):
    frame = pd.DataFrame(ROWS, columns=list(COLUMNS))
    for rows in (ROWS, ROWS.tolist(), frame, pl.from_pandas(frame), frame.to_dict("records")):
        answers = client.predict("iris", rows)
        assert list(answers.predictions) == LABELS
        np.testing.assert_allclose(answers.to_numpy(probabilities=True), CHANCES, rtol=1e-12)
    table = client.predict("iris", frame.set_index(frame.index + 100)).to_pandas()
    assert list(table.index) == list(range(100, 150))
    assert table.prediction.tolist() == LABELS


def test_an_array_says_no_less_of_what_is_wrong_than_text_does(client):
    with pytest.raises(RemoteError) as refused:
        client.predict("iris", np.ones((2, 3)))
    assert (refused.value.status, refused.value.remote_code) == (422, "invalid_request")


def test_a_stream_gives_the_answers_of_the_model(client, url):
    found = list(client.predict_stream("iris", iter(ROWS.tolist()), batch_rows=7, concurrency=3))
    assert [one.prediction for one in found] == LABELS
    assert [one.prediction for one in client.predict_stream("iris", ROWS, batch_rows=20)] == LABELS

    async def ask() -> list[str]:
        async with servable.AsyncClient(url) as other:
            stream = other.predict_stream("iris", iter(ROWS.tolist()), batch_rows=7, concurrency=3)
            return [str(one.prediction) async for one in stream]

    assert asyncio.run(ask()) == LABELS


def test_answers_in_lines(client, url):
    assert [one.prediction for one in client.predict_lines("iris", ROWS.tolist())] == LABELS

    async def ask() -> list[str]:
        async with servable.AsyncClient(url) as other:
            return [str(one.prediction) async for one in other.predict_lines("iris", ROWS.tolist())]

    assert asyncio.run(ask()) == LABELS


def test_lines_come_one_by_one_and_not_in_the_end(url):
    """What comes over the wire, and that what is left unread is never made."""
    seen: list[str] = []

    class Watched(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            answer = super().handle_request(request)
            seen.append(answer.headers["content-type"].partition(";")[0])
            assert "content-length" not in answer.headers
            return answer

    with servable.Client(url, transport=Watched()) as client:
        many = np.tile(ROWS, (1000, 1))
        answers = client.predict_lines("iris", many.tolist())
        assert next(answers).prediction == LABELS[0]
        answers.close()
        # The line at which the model is not asked stands between the answers of its neighbours.
        rows = [*ROWS[:3].tolist(), ["x", 1, 2, 3], *ROWS[3:5].tolist()]
        answers = client.predict_lines("iris", rows)
        assert [next(answers).prediction for _ in range(3)] == LABELS[:3]
        with pytest.raises(RemoteError) as wrong:
            next(answers)
        assert wrong.value.remote_code == "invalid_request"
    assert seen == ["application/x-ndjson"] * 2


def test_a_call_with_no_time_to_spare_is_given_up_by_the_server(client):
    rows = np.ones((20_000, 4))
    with pytest.raises(servable.ServableError) as late:
        client.predict("heavy", rows, timeout_s=0.02)
    assert late.value.code in ("server_unreachable", "remote_error")
    assert len(client.predict("heavy", rows[:2], timeout_s=30)) == 2
