"""What holds for all callers that are known elsewhere: subjects of tokens, and holders of certificates."""

from servable.security.limits import Limits, limit_set, parse_quota, parse_rate
from servable.settings import ServerSettings


def subject_limits(settings: ServerSettings) -> Limits:
    """The limits of each of them of whom nothing else is said.

    Raises:
        SettingInvalid: one of the settings is no limit.
    """
    return Limits(
        limit_set("rate_per_subject", settings.rate_per_subject, parse_rate),
        limit_set("quota_per_subject", settings.quota_per_subject, parse_quota) or 0,
        settings.concurrency_per_subject,
    )
