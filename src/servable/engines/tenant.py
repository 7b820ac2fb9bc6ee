"""Models in somebody else's process: loaded, followed and closed, without a socket and without signals.

``Tenant`` belongs to one event loop. ``Keeper`` gives it a loop in a thread of its own, for hosts that have
none and for those that never say when they begin and end.
"""

import asyncio
import atexit
import contextlib
import ctypes
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

import servable
from servable.engines.auditing import Auditing
from servable.engines.beside import Beside
from servable.errors import ModelNotReady, ServableError
from servable.logs import fields, logger
from servable.monitoring.metrics import Metrics
from servable.monitoring.totals import Snapshot
from servable.server.app import Application
from servable.server.authentication import Authentication
from servable.server.refusing import refuse
from servable.serving.desired import source_of
from servable.serving.held import failed, held
from servable.serving.host import Host
from servable.settings import ServerSettings, load_settings

_log = logger("embedded")
#: Seconds after a failed attempt to begin in which nobody tries again.
_REST_S = 1.0


class Plan(NamedTuple):
    """What is to be served.

    Attributes:
        settings: everything; those of sockets are of no use here.
        models: paths of model files, and references; every deployment of the home when empty.
        sample: rows that the model files accept.
        trust: whether code in the model files may run.
    """

    settings: ServerSettings
    models: tuple[str, ...] = ()
    sample: str | None = None
    trust: bool = False


def plan_of(
    models: tuple[str | Path, ...],
    home: str | Path | None,
    sample: str | Path | None,
    trust: bool,
    settings: Mapping[str, Any],
) -> Plan:
    """The plan that a call of ``asgi`` or ``wsgi`` means. Touches nothing but the settings.

    Raises:
        SettingInvalid: a setting does not exist or cannot be used.
    """
    # Which names and pages an application answers to is for it to say, not for what is mounted in it.
    everybody = {"allowed_hosts": ("*",), "allowed_origins": ("*",)}
    flags = {**everybody, **settings, "home": str(home) if home is not None else None}
    texts = tuple(str(model) for model in models)
    return Plan(load_settings(flags), texts, str(sample) if sample is not None else None, trust)


class Tenant:
    """The models of a plan as an ASGI application without lifespan. Belongs to one event loop.

    The first request, or ``open``, loads everything once; who comes meanwhile waits. A plan that cannot be
    begun is answered with 503 and the reason, and tried again by a later request.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._application: Application | None = None
        self._opening: asyncio.Task[None] | None = None
        self._following: tuple[asyncio.Task[None], ...] = ()
        self._beside: Beside | None = None
        self._auditing: Auditing | None = None
        self._failure: ServableError | None = None
        self._rest_until = 0.0

    @property
    def settings(self) -> ServerSettings:
        """Of the plan."""
        return self._plan.settings

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one HTTP request."""
        settings = self.settings
        if self._application is None:
            try:
                async with asyncio.timeout(settings.request_timeout_s):
                    await self.open()
            except TimeoutError:
                error = ModelNotReady("The models are still being loaded; try again in a moment.")
                await refuse(error, scope, send, settings)
                return
            except ServableError as error:
                await refuse(
                    ModelNotReady(f"The models are not ready: {error.message}"), scope, send, settings
                )
                return
        application = self._application
        if application is None:
            await refuse(
                ModelNotReady("The models were unloaded; try again in a moment."), scope, send, settings
            )
            return
        await application(scope, receive, send)

    async def open(self) -> None:
        """Take in what is a file, try every model once, and follow the deployments from now on.

        A version that cannot be loaded is no error here: its requests are answered with the reason, and it
        is tried again.

        Raises:
            ServableError: nothing can be begun: a file, a reference or the home is not what it should be.
        """
        if self._application is not None:
            return
        if self._opening is None:
            if self._failure is not None and time.monotonic() < self._rest_until:
                raise self._failure
            self._opening = asyncio.get_running_loop().create_task(self._open())
        # A caller who leaves takes nothing from the others.
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        try:
            self._failure = None
            await self._begin()
        except Exception as error:
            if not isinstance(error, ServableError):
                _log.exception("the models cannot be served")
                error = ServableError(f"{type(error).__name__} was raised; the log knows more.")
            self._failure = error
            self._rest_until = time.monotonic() + _REST_S
            _log.error("the models cannot be served", extra=fields(reason=error.message))
            raise error from None
        finally:
            self._opening = None

    async def _begin(self) -> None:
        settings, version = self._plan.settings, servable.__version__
        only = await asyncio.to_thread(self._references)
        source = await asyncio.to_thread(source_of, settings, only)
        host = Host(source, Metrics(version), settings)
        host.metrics.held = lambda: held(host.table)
        host.metrics.failed = lambda: failed(host.table)
        try:
            authentication = await asyncio.to_thread(Authentication, settings)
            application = Application(host, settings, version, authentication=authentication)
            application.audit.refusals = source.refusals
            await host.reconcile()
        except BaseException:
            await host.close()
            raise

        async def figures() -> Snapshot:
            return host.metrics.snapshot()

        # What embeds models starts no processes of its own accord, so somebody else has to watch.
        self._beside = Beside(settings, figures, watch=False)
        self._auditing = Auditing(settings, embedded=True)
        loop = asyncio.get_running_loop()
        self._following = tuple(
            map(
                loop.create_task,
                (
                    host.run(),
                    self._beside.run(),
                    self._auditing.run(),
                    authentication.follow(),
                    application.admission.limiter.follow(),
                    application.audit.follow(),
                ),
            )
        )
        self._application = application
        _log.info("ready" if host.ready else "started", extra=fields(home=settings.home))

    def _references(self) -> tuple[str, ...]:
        # Here, because what takes a file in imports onnxruntime, whose threads begin with the import: a
        # server that loads the application and then forks would have workers that cannot end.
        from servable.workflows.intake import is_path, take_in

        plan = self._plan
        return tuple(
            take_in(text, sample=plan.sample, trust=plan.trust, home=plan.settings.home).name
            if is_path(text)
            else text
            for text in plan.models
        )

    async def close(self) -> None:
        """Close every model after its last request. A later request begins anew."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        application, self._application = self._application, None
        if application is None:
            return
        application.draining = True
        for task in self._following:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ServableError):
                await task
        if self._beside is not None:
            await self._beside.close()
        if self._auditing is not None:
            await self._auditing.close()
        await application.host.close()
        await application.admission.limiter.close()
        await application.audit.close()
        application.authentication.close()


class Keeper:
    """A tenant in a thread of this process with an event loop of its own. Safe to use from any thread.

    The thread begins when it is first needed, so an object that was made before a process forks works in
    each of its children; it ends at ``close`` and with the process.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._lock = threading.Lock()
        self._pid = 0
        self._thread: threading.Thread | None = None
        self._found: tuple[Tenant, asyncio.AbstractEventLoop] | None = None
        self._stop: asyncio.Event | None = None
        _KEEPERS.add(self)

    @property
    def running(self) -> bool:
        """Whether its thread lives in this process."""
        return self._thread is not None and self._pid == os.getpid()

    def found(self) -> tuple[Tenant, asyncio.AbstractEventLoop]:
        """The tenant and the loop that it belongs to."""
        with self._lock:
            if not self.running or self._found is None:
                self._pid, self._found = os.getpid(), None
                begun = threading.Event()
                self._thread = threading.Thread(
                    target=self._run, args=(begun,), name="servable-embedded", daemon=True
                )
                self._thread.start()
                begun.wait()
                _at_exit(weakref.WeakMethod(self.close))
            if self._found is None:
                raise ModelNotReady("The thread of the models could not begin.")
            return self._found

    def close(self) -> None:
        """Close every model after its last request, and end the thread. A later request begins anew."""
        with self._lock:
            thread, found, stop = self._thread, self._found, self._stop
            here = self.running
            self._thread = self._found = self._stop = None
        if not here or thread is None or found is None or stop is None:
            return
        with contextlib.suppress(RuntimeError):  # The loop ended by itself.
            found[1].call_soon_threadsafe(stop.set)
        thread.join(self._plan.settings.shutdown_s)

    def forget(self) -> None:
        """In a child: the thread stayed in the parent, and a lock that it held is held for ever."""
        self._lock = threading.Lock()
        abandon(self._found)
        self._thread = self._found = self._stop = None

    def _run(self, begun: threading.Event) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._live(begun))
        except Exception:  # noqa: BLE001 - the border of the thread
            _log.exception("the thread of the models failed inside")
        finally:
            begun.set()

    async def _live(self, begun: threading.Event) -> None:
        tenant, stop = Tenant(self._plan), asyncio.Event()
        self._found, self._stop = (tenant, asyncio.get_running_loop()), stop
        begun.set()
        await stop.wait()
        await tenant.close()


_KEEPERS: "weakref.WeakSet[Keeper]" = weakref.WeakSet()


def abandon(inherited: object) -> None:
    """Keep what a child has from its parent for ever, because it cannot be given back there.

    The threads of a model's library stayed in the parent, and to wait for their end ends the child instead.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


def _forget_all() -> None:
    for keeper in list(_KEEPERS):
        keeper.forget()


os.register_at_fork(after_in_child=_forget_all)


def _at_exit(method: "weakref.WeakMethod[Callable[[], None]]") -> None:
    """Call a method at the end of the process, while threads can still be started."""

    def call() -> None:
        bound = method()
        if bound is not None:
            bound()

    # ``atexit`` comes after the thread pools were shut down, and closing a model needs them. What has the
    # right moment is not public; without it the end is less tidy, and nothing is lost.
    register = getattr(threading, "_register_atexit", atexit.register)
    with contextlib.suppress(RuntimeError):
        register(call)
