"""The thing named does not exist."""

from servable.errors.root import ServableError


class NotFoundError(ServableError, code="not_found"):
    """The thing named does not exist."""


class ModelNotFound(NotFoundError, code="model_not_found"):
    """No model of this name."""


class VersionNotFound(NotFoundError, code="version_not_found"):
    """The model exists, the version or alias does not."""


class FileMissing(NotFoundError, code="file_not_found"):
    """A path given by the caller that does not exist."""


class RouteNotFound(NotFoundError, code="route_not_found"):
    """No such address on this server."""
