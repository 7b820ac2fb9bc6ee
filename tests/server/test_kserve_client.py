"""KServe's own client, in an environment of its own, against a real server."""

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from servable.engines.local import LocalServer
from servable.settings import ServerSettings
from serving.making import expected, publish_iris
from serving.making_tensors import publish_image, publish_shout, scores_of

ROOT = Path(__file__).resolve().parents[2]
ROWS = [[5.1, 3.5, 1.4, 0.2], [7.0, 7.0, 7.0, 7.0]]
TEXTS = ["hello", "grüße", ""]
IMAGES = np.random.default_rng(3).random((2, 3, 224, 224), np.float32)
LABELS = [expected(row)[0] for row in ROWS]
CHANCES = [expected(row)[1].tolist() for row in ROWS]


def interpreter() -> Path:
    """Of the environment that the benchmarks have for KServe; it is made when it is missing."""
    spec = importlib.util.spec_from_file_location("envs", ROOT / "bench" / "envs.py")
    assert spec is not None
    assert spec.loader is not None
    envs: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(envs)
    try:
        made: Path = envs.python("kserve")
    except envs.Unavailable as missing:
        pytest.skip(f"KServe's client cannot be had here: {missing}")
    return made


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_every_way_of_the_client_gets_the_answers_of_the_model(home: Path) -> None:
    python = interpreter()
    publish_iris(home)
    publish_shout(home)
    publish_image(home)
    cases = {"rows": ROWS, "texts": TEXTS, "images": IMAGES.tolist()}
    with LocalServer(ServerSettings(home=str(home), port=0)) as server:
        done = subprocess.run(
            [python, Path(__file__).with_name("kserve_caller.py"), server.url],
            input=json.dumps(cases),
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    shouted = [f"{text}!" for text in TEXTS]
    scores = scores_of(IMAGES)
    assert told["v1"]["iris"] == {"predictions": LABELS}
    assert told["v1"]["shout"] == {"predictions": shouted}
    np.testing.assert_allclose(told["v1"]["image"]["predictions"], scores, rtol=1e-4, atol=1e-4)
    for way in ("v2", "v2 binary", "grpc", "grpc raw"):
        assert told[way]["iris"]["prediction"] == LABELS, way
        np.testing.assert_allclose(told[way]["iris"]["probabilities"], CHANCES, rtol=1e-12)
        assert told[way]["shout"]["shouted"] == shouted, way
        np.testing.assert_allclose(told[way]["image"]["scores"], scores, rtol=1e-4, atol=1e-4)
    assert "404" in told["v1 absent"]
    for way in ("v1", "v2", "grpc"):
        assert "input" in told[f"{way} refused"] or "instances" in told[f"{way} refused"], told
