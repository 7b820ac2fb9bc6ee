"""For development: looks at files, and when one changes makes the running server follow.

A model file that was given as a path is taken in again and deployed; the server swaps to the new
version by itself. Changed settings and changed sources of Servable restart the workers one after the
other, each answering until its successor is ready. Files are looked at by ``stat``; one counts as
changed when it differs from before and has stood still for one look, so nobody reads half a file.
"""

import asyncio
import hashlib
import importlib.metadata
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from servable.errors import ServableError
from servable.settings import ServerSettings

#: Seconds between two looks at the files.
LOOK_S = 0.5
_PACKAGE = Path(__file__).resolve().parents[1]

#: How a file looks: time of change in nanoseconds, size in bytes, inode. None: it is not there.
Look = tuple[int, int, int] | None
Looks = Mapping[Path, Look]

#: Replaces every worker; with other settings when given. Says whether that went well.
Restart = Callable[[ServerSettings | None], Awaitable[bool]]


class Wishes(NamedTuple):
    """What follows from changed files.

    Attributes:
        models: model files to take in again.
        settings: whether the settings must be read again.
        sources: whether the program itself changed.
    """

    models: tuple[Path, ...] = ()
    settings: bool = False
    sources: bool = False


def look(files: Iterable[Path]) -> dict[Path, Look]:
    """How these files look now."""
    return {file: _look(file) for file in files}


def settled_changes(known: Looks, before: Looks, now: Looks) -> set[Path]:
    """The files that differ from what was acted upon and stood still since the look before. Pure.

    Args:
        known: as they were when something was last done about them.
        before: as they were at the look before.
        now: as they are.
    """
    return {
        file
        for file in {*known, *now}
        if now.get(file) != known.get(file) and now.get(file) == before.get(file)
    }


class Reload:
    """What to look at and what to do.

    Args:
        models: model file to the arguments of ``servable`` that take it in again.
        config: the file of settings, there or not.
        settings: reads all settings again.
        say: is told what happened, a line each.
        sources: folder of the program's own modules; found when None and the installation is editable.
    """

    def __init__(
        self,
        models: Mapping[Path, Sequence[str]],
        config: Path,
        settings: Callable[[], ServerSettings],
        say: Callable[[str], None],
        *,
        sources: Path | None = None,
    ) -> None:
        self._models = dict(models)
        self._config = config
        self._settings = settings
        self._say = say
        self._sources = sources or (_PACKAGE if installed_editable() else None)
        self._digests = {path: _digest(path) for path in self._models}

    def files(self) -> list[Path]:
        """Every file that is looked at."""
        sources = sorted(self._sources.rglob("*.py")) if self._sources is not None else []
        return [*self._models, self._config, *sources]

    async def follow(self, restart: Restart) -> None:
        """Look and act until cancelled.

        Args:
            restart: of the running server.
        """
        known = before = look(self.files())
        while True:
            await asyncio.sleep(LOOK_S)
            now = look(self.files())
            changed = settled_changes(known, before, now)
            before = now
            if changed:
                known = {**known, **{file: now.get(file) for file in changed}}
                await self._act(self._wishes(changed), restart)

    def _wishes(self, changed: set[Path]) -> Wishes:
        return Wishes(
            models=tuple(path for path in self._models if path in changed),
            settings=self._config in changed,
            sources=any(path not in self._models and path != self._config for path in changed),
        )

    async def _act(self, wishes: Wishes, restart: Restart) -> None:
        for path in wishes.models:
            await self._take_in(path)
        if not wishes.settings and not wishes.sources:
            return
        settings: ServerSettings | None = None
        what = "sources of servable"
        if wishes.settings:
            what = str(self._config)
            try:
                settings = self._settings()
            except ServableError as error:
                self._say(f"{what} changed and cannot be used: {error.message} The settings before stay.")
                return
        self._say(f"{what} changed; the workers restart")
        if await restart(settings):
            self._say("the workers restarted")
        else:
            self._say("the workers did not restart; those before go on answering, the log says why")

    async def _take_in(self, path: Path) -> None:
        digest = _digest(path)
        if not digest or digest == self._digests[path]:
            return
        self._digests[path] = digest
        self._say(f"{path} changed and is taken in again")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "servable.cli.main",
            *self._models[path],
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if status == 0:
            self._say(f"{path} is deployed; the running server changes over by itself")
        else:
            self._say(f"{path} was not taken in; the version before goes on answering")


def installed_editable() -> bool:
    """Whether the package runs from its sources, so that these may change while it runs."""
    try:
        told = importlib.metadata.distribution("servable").read_text("direct_url.json")
        about = msgspec.json.decode(told or "{}", type=dict[str, object])
    except (importlib.metadata.PackageNotFoundError, msgspec.MsgspecError):
        return False
    details = about.get("dir_info")
    return isinstance(details, dict) and bool(details.get("editable"))


def _look(file: Path) -> Look:
    try:
        found = os.stat(file)  # noqa: PTH116 - a hundred of them twice a second
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _digest(path: Path) -> str:
    """Of a file's content; empty when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
