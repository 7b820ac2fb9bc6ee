import errno

import pytest

from servable import errors
from servable.cli import exits
from servable.errors import FieldProblem


def every_error() -> list[type[errors.ServableError]]:
    found, waiting = [], [errors.ServableError]
    while waiting:
        kind = waiting.pop()
        found.append(kind)
        # Those of other modules are there or not, by what else was imported.
        waiting += [each for each in kind.__subclasses__() if each.__module__ == errors.__name__]
    return sorted(found, key=lambda kind: kind.__name__)


def made(kind: type[errors.ServableError]) -> errors.ServableError:
    if kind is errors.RequestInvalid:
        return kind([FieldProblem("input.a", "a number", "a text")])
    if kind is errors.MethodNotAllowed:
        return kind("Said.", ["GET"])
    if kind is errors.RemoteError:
        return kind("Said.", 500)
    return kind("Said.")


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_code_that_is_documented_and_its_own_sentence(kind):
    error = made(kind)
    ending = exits.ending(error)
    assert ending.code in exits.MEANINGS
    assert ending.code != exits.OK
    assert ending.sentence.startswith(error.message)
    assert f"{ending.code} {exits.MEANINGS[ending.code]}" in exits.EPILOG


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.DataError("x"), 3),
        (errors.ConflictError("x"), 3),
        (errors.SettingInvalid("x"), 2),
        (errors.ModelNotFound("x"), 4),
        (errors.GateFailed("x"), 5),
        (errors.ArtifactUntrusted("x"), 6),
        (errors.ServerUnreachable("x"), 7),
        (errors.PortInUse("x"), 7),
        (errors.StorageFull("x"), 7),
        (errors.DependencyMissing("x"), 7),
        (errors.ModelFailed("x"), 1),
        (errors.RemoteError("x", 404), 4),
        (errors.RemoteError("x", 422), 3),
        (errors.RemoteError("x", 429), 7),
        (errors.RemoteError("x", 500), 1),
        (errors.RemoteError("x", 503), 7),
        # Once half of an answer was there, the status says nothing any more.
        (errors.RemoteError("x", 200, "model_failed"), 1),
        (errors.RemoteError("x", 200, "deadline_exceeded"), 7),
        (errors.RemoteError("x", 200, "model_died"), 7),
        (errors.RemoteError("x", 200, "invalid_request"), 3),
        (errors.RemoteError("x", 200, "a code of tomorrow"), 1),
        (errors.RemoteError("x", 200), 1),
        (KeyboardInterrupt(), 130),
        (OSError(errno.ENOSPC, "No space left on device", "/home/x"), 7),
        (OSError(errno.EACCES, "Permission denied", "/home/x"), 7),
        (OSError(errno.EIO, "Input/output error"), 7),
        (OSError(errno.ECHILD, "No child"), 1),
        (MemoryError(), 7),
        (ZeroDivisionError("division by zero"), 1),
    ],
)
def test_codes(error, code):
    assert exits.ending(error).code == code


def test_an_unexpected_exception_is_one_sentence_without_its_text():
    sentence = exits.ending(ValueError("secret row")).sentence
    assert sentence.startswith("This is a fault in Servable: ValueError;")
    assert "SERVABLE_DEBUG=1" in sentence
    assert "secret" not in sentence


def test_a_full_disk_says_where_and_what_to_do():
    sentence = exits.ending(OSError(errno.ENOSPC, "No space left on device", "/data/x")).sentence
    assert sentence == "No space is left at /data/x; free some, or choose another place with --home."


def test_a_remote_refusal_lists_its_fields_and_request_id():
    problems = [FieldProblem("input.a", "a number", "a text"), FieldProblem("input.b", "c", "d")]
    error = errors.RemoteError("input.a: expected a number", 422, "invalid_request", "r1", problems)
    assert exits.ending(error).sentence.splitlines() == [
        "input.a: expected a number",
        "  input.a: expected a number, got a text",
        "  input.b: expected c, got d",
        "  request id r1",
    ]
