"""``generate_client``: from a home, from a server, and what it says when it cannot."""

import httpx
import pytest

import servable
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


@pytest.mark.parametrize("details", [{}, {"signature": {"task": "magic"}}, {"signature": 3}])
def test_a_server_that_describes_no_signature(monkeypatch, details):
    told = {"name": "iris", "version": 1, **details}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=told))
    monkeypatch.setattr(httpx, "HTTPTransport", lambda **_options: transport)
    with pytest.raises(RemoteError, match="without a signature"):
        servable.generate_client("iris", url="http://127.0.0.1:8000")
