"""The options of ``servable deploy``: what is printed, what is kept, what is refused."""

import json
from pathlib import Path

import pytest

import servable
from optimization.graphs import convolution
from servable.cli.wording import size, wishes


@pytest.fixture
def image(tmp_path: Path, home: Path) -> None:
    servable.add(convolution(tmp_path / "image.onnx"), name="image", home=home)


def test_every_option_reaches_the_deployment(invoke, image):
    done = invoke(
        *("deploy", "image", "--executor", "process", "--processes", 2, "--spares", 1, "--threads", 3),
        *("--device", "cuda:1", "--share"),
        *(
            "--run-limit",
            2,
            "--max-batch",
            8,
            "--cache",
            "64MiB",
            "--cache-age",
            60.5,
            "--pin",
            "--network",
            "--programs",
            "--json",
        ),
    )
    assert done.exit_code == 0, done.stderr
    policy = {
        "executor": "process",
        "device": "cuda:1",
        "share": True,
        "processes": 2,
        "spares": 1,
        "threads": 3,
        "run_limit_s": 2.0,
        "max_batch": 8,
        "cache_bytes": 64 * 1024**2,
        "cache_age_s": 60.5,
        "pinned": True,
        "network": True,
        "programs": True,
    }
    assert json.loads(done.stdout)["policy"] == policy
    assert json.loads(invoke("describe", "image", "--json").stdout)["policy"] == policy
    assert "shared by all workers" in " ".join(invoke("describe", "image").stdout.split())
    text = " ".join(
        invoke(
            "deploy",
            "image",
            "--executor",
            "inline",
            "--no-pin",
            "--no-share",
            "--no-network",
            "--no-programs",
        ).stdout.split()
    )
    assert (
        "executor inline, device cuda:1, 2 processes, not shared by workers, 1 spare, 3 batches at once, "
        "runs of at most 2 s" in text
    )
    assert "a cache of 64 MiB, answers kept for 60.5 s" in text
    assert "pinned" not in text
    assert "without the network, without programs" in text
    about = " ".join(invoke("describe", "image").stdout.split())
    assert "policy: executor inline, device cuda:1, 2 processes" in about
    assert "the deployment asks for it" in about
    assert "executor inline" in " ".join(invoke("models").stdout.split())
    plain = invoke("deploy", "image", "--reset-policy").stdout
    assert "Policy" not in plain
    assert "policy" not in invoke("models").stdout
    assert "the graph is declarative" in " ".join(invoke("describe", "image").stdout.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--processes", "0"), "number of processes of a deployment must be 1 to 64"),
        (("--device", "tpu"), "it is auto, cpu, cuda"),
        (("--cache", "lots"), "must be one such as 64MiB, not 'lots'"),
        (("--cache-age", "-1"), "age of kept answers"),
        (("--run-limit", "nan"), "longest run"),
        (("--max-batch", "-8"), "largest batch"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(invoke, image, arguments, words):
    done = invoke("deploy", "image", *arguments)
    assert done.exit_code == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert json.loads(invoke("models", "--json").stdout)[0]["deployed"] is None


def test_an_unknown_executor_is_refused_before_anything_is_opened(invoke, home):
    done = invoke("deploy", "image", "--executor", "gpu")
    assert done.exit_code == 2
    assert "process" in done.stderr
    assert not home.exists()


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1 KiB"), (64 * 1024**2, "64 MiB"), (3 * 2**29, "1.5 GiB")],
)
def test_sizes_in_words(count: int, words: str) -> None:
    assert size(count) == words


def test_policies_in_words() -> None:
    assert wishes({}) == "by measurement"
    assert wishes({"pinned": True, "of a newer program": 1}) == "pinned"
    assert wishes({"pinned": False}) == "by measurement"
    assert wishes({"run_limit_s": "long", "cache_bytes": None}) == "runs of at most long s, a cache of None"
