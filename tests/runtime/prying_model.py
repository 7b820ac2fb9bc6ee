"""A model in plain Python that runs the code in its rows and says what came of it.

This very file is what the packages hold, so it names nothing else of the tests.
"""

from typing import Any

import servable


class Prying(servable.Model):
    """Runs each row; the answer is what the row leaves in ``said``, or the error that it met."""

    def predict(self, code: list[str]) -> list[str]:
        return [self.tried(each) for each in code]

    def tried(self, code: str) -> str:
        names: dict[str, Any] = {"said": "", "model": self}
        try:
            exec(code, names)
        except Exception as error:  # noqa: BLE001 - whatever it meets is the answer
            return f"{type(error).__name__}: {error}"
        return str(names["said"])


class PryingOutside(Prying):
    """The same by an author who says that it calls others."""

    network = True


class PryingStarter(Prying):
    """The same by an author who says that it starts programs."""

    programs = True


class PryingPrograms(Prying):
    """The same by an author who calls something else by that name."""

    programs = ("gzip", "cat")
