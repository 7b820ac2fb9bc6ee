"""Settings: frozen records, and the one loader.

What there is to set is in ``declared``, how it is put together in ``loading``, and what a value may look like
in a file, a variable or a flag in ``values``.
"""

from servable.settings.addresses import is_loopback, masked_url
from servable.settings.declared import ServerSettings, SettingDescription, describe_settings
from servable.settings.loading import CONFIG_FILE, CONFIG_VARIABLE, config_path, load_settings
from servable.settings.values import as_bytes

__all__ = [
    "CONFIG_FILE",
    "CONFIG_VARIABLE",
    "ServerSettings",
    "SettingDescription",
    "as_bytes",
    "config_path",
    "describe_settings",
    "is_loopback",
    "load_settings",
    "masked_url",
]
