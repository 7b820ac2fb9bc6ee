"""The one loader of settings.

Each setting is looked for in four places; the later wins: its default, ``servable.toml`` (in the working
directory, or the file named by ``SERVABLE_CONFIG``), the environment, a flag. In the file a setting is a
key of the table ``[server]``; in the environment it is ``SERVABLE_`` and its name in capitals.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from servable.errors import SettingInvalid
from servable.settings.declared import PREFIX, ServerSettings, SettingDescription, describe_settings
from servable.settings.values import typed

#: The file read from the working directory when it exists.
CONFIG_FILE = "servable.toml"
#: Names the file to be read instead.
CONFIG_VARIABLE = "SERVABLE_CONFIG"
_TABLE = "server"
_LEVELS = ("debug", "info", "warning", "error")
_FORMATS = ("text", "json")
_CLIENT_AUTH = ("optional", "require")
_SIGNATURES = ("off", "warn", "require")
_CONFINEMENTS = ("off", "best", "require")
#: Variables by which Vertex AI tells a container what to do; our own go before them.
_FOREIGN = {"port": "AIP_HTTP_PORT", "health_route": "AIP_HEALTH_ROUTE", "predict_route": "AIP_PREDICT_ROUTE"}
_ALLOWED = {
    "log_level": _LEVELS,
    "log_format": _FORMATS,
    "tls_client_auth": _CLIENT_AUTH,
    "signatures": _SIGNATURES,
    "confinement": _CONFINEMENTS,
}
_ROUTES = frozenset({"health_route", "predict_route"})


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> ServerSettings:
    """Put the settings together: default < ``servable.toml`` < environment < flag.

    In the environment the variables of Vertex AI are read as well.

    Args:
        flags: settings by name as given on the command line or in a call; None values count as not given.
        environment: read instead of the process's own.
        folder: where ``servable.toml`` is looked for; the working directory when None.

    Raises:
        SettingInvalid: a name that does not exist or a value that cannot be used, and where it came from.
    """
    surroundings = os.environ if environment is None else environment
    known = {description.name: description for description in describe_settings()}
    values: dict[str, Any] = {}
    for name, value, source in [
        *_from_file(surroundings, folder or Path()),
        *_from_environment(surroundings),
        *(
            (name, value, f"the option --{name.replace('_', '-')}")
            for name, value in (flags or {}).items()
            if value is not None
        ),
    ]:
        if name not in known:
            raise SettingInvalid(
                f"{source} is no setting of the server; known are {', '.join(sorted(known))}."
            )
        values[name] = _convert(known[name], value, source)
    return ServerSettings(**values)


def config_path(environment: Mapping[str, str] | None = None, folder: Path | None = None) -> Path:
    """The file of settings that ``load_settings`` reads, there or not; the arguments are as there."""
    surroundings = os.environ if environment is None else environment
    named = surroundings.get(CONFIG_VARIABLE, "")
    return Path(named) if named else (folder or Path()) / CONFIG_FILE


def _from_environment(environment: Mapping[str, str]) -> list[tuple[str, Any, str]]:
    own = [(name, PREFIX + name.upper()) for name in ServerSettings.__struct_fields__]
    return [
        (name, environment[variable], f"the variable {variable}")
        for name, variable in (*_FOREIGN.items(), *own)
        if variable in environment
    ]


def _from_file(environment: Mapping[str, str], folder: Path) -> list[tuple[str, Any, str]]:
    named = environment.get(CONFIG_VARIABLE, "")
    path = config_path(environment, folder)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            raise SettingInvalid(f"The file {path} named by {CONFIG_VARIABLE} does not exist.") from None
        return []
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingInvalid(f"{path} cannot be read as TOML: {error}.") from error
    table = content.get(_TABLE, {})
    if not isinstance(table, dict):
        raise SettingInvalid(f"{path}: [{_TABLE}] must be a table of settings.")
    return [(name, value, f"{_TABLE}.{name} in {path}") for name, value in table.items()]


def _convert(known: SettingDescription, value: Any, source: str) -> Any:
    converted = typed(known.default, value)
    if converted is None:
        raise SettingInvalid(f"{source} must be a {known.type}, not {str(value)[:60]!r}.")
    if known.least is not None and known.most is not None and not known.least <= converted <= known.most:
        raise SettingInvalid(f"{source} must lie between {known.least} and {known.most}, not {converted}.")
    allowed = _ALLOWED.get(known.name)
    if allowed is not None and converted not in allowed:
        raise SettingInvalid(f"{source} must be one of {', '.join(allowed)}, not {converted!r}.")
    if known.name == "alert_webhook" and converted and not re.match(r"https?://[^/\s]", converted):
        # The value is not repeated: it often holds a password.
        raise SettingInvalid(f"{source} must be an address such as https://example.org/hook.")
    if known.name in _ROUTES and converted and not re.fullmatch(r"/[^\s{}?#]*", converted):
        raise SettingInvalid(f"{source} must be an address such as /predict, not {converted[:60]!r}.")
    return converted
