"""``generate_client``: from a home, from a server, and what it says when it cannot."""

from collections.abc import Iterator

import pytest

import servable
from client.conftest import Scripted
from servable.errors import ModelNotFound, RemoteError, SettingInvalid, VersionNotFound
from serving.making import publish_iris


def test_the_digest_is_that_of_the_package(home):
    record = publish_iris(home)
    made = servable.generate_client("iris@latest", home=home)
    assert (made.model, made.version, made.language, made.file) == ("iris", 1, "python", "")
    assert made.package == record.package
    assert made.source == servable.generate_client("iris:1", home=home).source


def test_what_is_not_there(home):
    publish_iris(home)
    with pytest.raises(ModelNotFound):
        servable.generate_client("tulip", home=home)
    with pytest.raises(VersionNotFound):
        servable.generate_client("iris:7", home=home)
    with pytest.raises(SettingInvalid, match="languages are python, typescript"):
        servable.generate_client("iris", "cobol", home=home)


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.stop()


@pytest.mark.parametrize("details", [{}, {"signature": {"task": "magic"}}, {"signature": 3}])
def test_a_server_that_describes_no_signature(server, details):
    server.say_json({"name": "iris", "version": 1, **details})
    with pytest.raises(RemoteError, match="without a signature"):
        servable.generate_client("iris", url=server.url)
