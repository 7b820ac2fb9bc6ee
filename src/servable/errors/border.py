"""The border of a library: its exceptions become ours."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from servable.errors.root import ServableError


@contextmanager
def converted(mapping: Mapping[type[Exception], type[ServableError]], message: str) -> Iterator[None]:
    """Turn foreign exceptions into ours at the border of a library.

    Args:
        mapping: foreign class to ours; the first entry that matches wins, so put subclasses first.
        message: the sentence to say; ``{}`` in it is replaced by the foreign exception's text.

    Raises:
        ServableError: of the mapped class, with the foreign exception as its cause.
    """
    try:
        yield
    except ServableError:
        raise
    except tuple(mapping) as foreign:
        ours = next(ours for theirs, ours in mapping.items() if isinstance(foreign, theirs))
        reason = str(foreign).strip() or type(foreign).__name__
        raise ours(message.replace("{}", reason)) from foreign
