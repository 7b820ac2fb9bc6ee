"""What is reached on real texts that were held out, each by one command, each asked with a raw sentence."""

import time
from pathlib import Path

import httpx
import pytest

import servable
from e2e.conftest import running_server

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]


@pytest.mark.parametrize(
    ("file", "least", "asked"),
    [
        (
            "sentiment_en/sentences.csv",
            0.82,
            {0: "A terrible waste of money, I am very disappointed.", 1: "I love it, a great phone."},
        ),
        (
            "sentiment_zh/reviews.csv",
            0.85,
            {0: "房间很脏，服务态度极差，非常失望", 1: "酒店很不错，环境好，早餐丰富"},
        ),
        (
            "topics_20news/posts.csv",
            0.80,
            {
                "rec.sport.hockey": "The goalie made forty saves and they won the playoff game in overtime.",
                "sci.space": "NASA launched the shuttle into orbit with a new satellite.",
            },
        ),
    ],
    ids=["english", "chinese", "topics"],
)
def test_real_texts_are_understood(
    shared_data: Path, home: Path, file: str, least: float, asked: dict[int | str, str]
) -> None:
    started, worked = time.monotonic(), time.process_time()
    outcome = servable.train(
        shared_data / file, target="label", name="texts", time_budget_s=150, home=home, deploy=True
    )
    seconds = time.process_time() - worked
    lasted = f"{time.monotonic() - started:.0f} s, {seconds:.0f} s of cores"
    said = f"{outcome.estimator}: {outcome.metrics}, {lasted}"
    assert outcome.metrics["accuracy"] >= least, said
    assert outcome.serving.startswith("text"), said
    with running_server(home) as url, httpx.Client() as client:
        for label, text in asked.items():
            row = {"text": text} | ({"source": "amazon"} if "sentences" in file else {})
            answer = client.post(f"{url}/predict", json={"input": row})
            assert answer.status_code == 200, answer.text
            assert answer.json()["prediction"] == label
