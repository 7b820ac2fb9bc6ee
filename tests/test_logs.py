"""Log lines, for people and for machines."""

import io
import json

import pytest

from servable import logs


def test_json_lines() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    logs.logger("serving").info("model live", extra=logs.fields(model="iris", seconds=0.5))
    logs.logger("serving").debug("not shown")
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert (event["level"], event["logger"], event["message"]) == ("info", "servable.serving", "model live")
    assert (event["model"], event["seconds"]) == ("iris", 0.5)


def test_text_lines() -> None:
    stream = io.StringIO()
    logs.configure("debug", "text", stream)
    logs.logger("x").warning("two\nlines", extra=logs.fields(model="iris"))
    assert stream.getvalue().endswith("warning two lines model=iris\n")
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize("form", ["json", "text"])
def test_tracebacks_stay_in_the_log(form: str) -> None:
    stream = io.StringIO()
    logs.configure("info", form, stream)
    try:
        raise ValueError("row".join(["secret", "words"]))
    except ValueError as error:
        logs.logger("x").error("failed inside", exc_info=error)
    said = stream.getvalue()
    assert "ValueError" in said
    assert "test_logs.py" in said
    assert "secretrow" not in said
