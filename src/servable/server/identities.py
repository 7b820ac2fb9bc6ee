"""What holds for all callers that are known elsewhere: subjects of tokens, and holders of certificates."""

from collections.abc import Callable
from typing import TypeVar

from servable.errors import InputError, SettingInvalid
from servable.security.limits import Limits, parse_quota, parse_rate
from servable.settings import ServerSettings

_T = TypeVar("_T")


def subject_limits(settings: ServerSettings) -> Limits:
    """The limits of each of them of whom nothing else is said.

    Raises:
        SettingInvalid: one of the settings is no limit.
    """
    return Limits(
        _read("rate_per_subject", settings.rate_per_subject, parse_rate),
        _read("quota_per_subject", settings.quota_per_subject, parse_quota) or 0,
        settings.concurrency_per_subject,
    )


def _read(setting: str, text: str, parse: Callable[[str], _T]) -> _T | None:
    try:
        return parse(text) if text.strip() else None
    except InputError as error:
        raise SettingInvalid(f"The setting {setting}: {error.message}") from None
