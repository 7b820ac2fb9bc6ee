"""The settings loader: precedence, and where a mistake came from."""

from pathlib import Path
from typing import Any

import pytest

from servable.errors import SettingInvalid
from servable.settings import (
    ServerSettings,
    describe_settings,
    load_settings,
    masked_url,
)


def load(
    tmp_path: Path, toml: str = "", environment: dict[str, str] | None = None, **flags: Any
) -> ServerSettings:
    if toml:
        (tmp_path / "servable.toml").write_text(toml)
    return load_settings(flags, environment=environment or {}, folder=tmp_path)


def test_variables_of_vertex_ai_count_below_our_own(tmp_path: Path) -> None:
    environment = {"AIP_HTTP_PORT": "8081", "AIP_HEALTH_ROUTE": "/ping", "AIP_PREDICT_ROUTE": "/v1/x:predict"}
    found = load(tmp_path, "[server]\nport = 1\n", environment)
    assert (found.port, found.health_route, found.predict_route) == (8081, "/ping", "/v1/x:predict")
    assert load(tmp_path, "", environment | {"SERVABLE_PORT": "2"}).port == 2
    assert load(tmp_path, "", environment, port=3).port == 3
    for route in ("ping", "/a b", "/{name}", "/a?b"):
        with pytest.raises(SettingInvalid, match="AIP_HEALTH_ROUTE must be an address"):
            load(tmp_path, "", {"AIP_HEALTH_ROUTE": route})


def test_later_sources_win(tmp_path: Path) -> None:
    toml = "[server]\nport = 1\npoll_s = 2\nallowed_hosts = ['a']\n"
    assert load(tmp_path).port == 8000
    assert load(tmp_path, toml).port == 1
    environment = {"SERVABLE_PORT": "2", "SERVABLE_ALLOWED_HOSTS": "b, c"}
    both = load(tmp_path, toml, environment)
    assert (both.port, both.poll_s, both.allowed_hosts) == (2, 2.0, ("b", "c"))
    assert load(tmp_path, toml, environment, port=3).port == 3
    assert load(tmp_path, toml, environment, port=None).port == 2


@pytest.mark.parametrize(
    ("toml", "environment", "flags", "said"),
    [
        ("[server]\nport = 'x'\n", {}, {}, "server.port in "),
        ("[server]\nprot = 1\n", {}, {}, "server.prot in "),
        ("[server\n", {}, {}, "cannot be read as TOML"),
        ("server = 1\n", {}, {}, "must be a table"),
        ("", {"SERVABLE_PORT": "99999"}, {}, "the variable SERVABLE_PORT must lie between 0 and 65535"),
        ("", {"SERVABLE_INSECURE": "maybe"}, {}, "must be a true or false"),
        ("", {"SERVABLE_POLL_S": "nan"}, {}, "must be a number"),
        ("", {"SERVABLE_CONFIG": "gone.toml"}, {}, "does not exist"),
        ("", {}, {"log_level": "loud"}, "the option --log-level must be one of debug"),
        ("", {}, {"port": 1.5}, "the option --port must be a whole number"),
        ("", {}, {"port": True}, "the option --port must be a whole number"),
        ("", {}, {"allowed_hosts": [1]}, "list of texts"),
        ("", {}, {"home": 3}, "must be a text"),
    ],
)
def test_mistakes_say_where_they_are(
    tmp_path: Path, toml: str, environment: dict[str, str], flags: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingInvalid) as caught:
        load(tmp_path, toml, environment, **flags)
    assert said in caught.value.message


def test_words_for_booleans(tmp_path: Path) -> None:
    for word, value in (("1", True), ("Yes", True), ("off", False), ("false", False)):
        assert load(tmp_path, environment={"SERVABLE_INSECURE": word}).insecure is value


def test_every_setting_is_described() -> None:
    described = describe_settings()
    assert [each.name for each in described] == list(ServerSettings.__struct_fields__)
    defaults = ServerSettings()
    for each in described:
        assert getattr(defaults, each.name) == each.default
        assert each.help.endswith(".")
        assert each.variable == f"SERVABLE_{each.name.upper()}"


def test_passwords_are_not_shown() -> None:
    url = "postgresql://ann:secret@db:5432/models"
    assert masked_url(url) == "postgresql://ann:***@db:5432/models"
    assert masked_url("sqlite:///x.db") == "sqlite:///x.db"
    assert "secret" not in repr(ServerSettings(database_url=url))
    shown = repr(ServerSettings(alert_webhook="https://example.org/secret", alert_key="secret"))
    assert "secret" not in shown
    assert "alert_key='***'" in shown
