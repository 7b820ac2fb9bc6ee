"""Which files a model process may open: its package, Python and its libraries, a little of the system.

An allow-list: whatever is not here, such as the home of the server, other models, keys in ``~/.ssh`` or
``/etc/shadow``, cannot be opened. Landlock allows whole folders and cannot except anything below them, so a
folder with something hidden in it is taken apart into what lies beside that.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import all_suffixes
from pathlib import Path

from servable.runtime.landlock import DEVICE, OWN, READ, Access, Rule

#: Programs and libraries of the system.
_SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store")
#: How the dynamic linker, time zones, languages and the standard library are set up.
_SETUP = (
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/timezone",
    "/etc/locale.alias", "/etc/mime.types", "/etc/python3", "/etc/fonts", "/etc/malloc.conf",
)  # fmt: skip
#: What libraries ask about the machine.
_MACHINE = (
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version", "/proc/filesystems", "/proc/uptime",
    "/proc/loadavg", "/proc/vmstat", "/proc/zoneinfo", "/proc/sys/vm", "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/threads-max", "/proc/sys/kernel/pid_max", "/proc/sys/kernel/randomize_va_space",
    "/sys/devices/system", "/sys/fs/cgroup", "/sys/kernel/mm", "/sys/bus/pci", "/sys/class/drm",
    "/sys/class/accel", "/dev/random", "/dev/urandom",
)  # fmt: skip
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full")
#: How names are found and certificates checked, for a model with a declared network.
_NETWORK = (
    "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf",
    "/etc/services", "/etc/protocols", "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/crypto-policies",
    "/run/systemd/resolve",
)  # fmt: skip
#: What a driver of GPUs asks about the machine.
_DRIVER = ("/sys", "/proc/driver", "/proc/devices", "/proc/modules", "/etc/OpenCL", "/etc/vulkan")
_GPUS = ("nvidia*", "dri")


def rules(
    package: str, folder: str, *, hidden: Sequence[str], files: Sequence[str], network: bool, gpu: bool
) -> Iterator[Rule]:
    """What may be opened; looks at the machine.

    Args:
        package: folder of the package.
        folder: of the process; empty for none.
        hidden: absolute folders that must not be opened, but for the package.
        files: absolute files and folders that may be read besides.
        network: whether names must be found.
        gpu: whether a GPU may be used.
    """
    secret = tuple(os.path.realpath(each) for each in hidden)
    yield Rule(Path(package), READ)
    if folder:
        yield Rule(Path(folder), OWN)
    yield from (Rule(Path(each), READ) for each in files)
    wholes = [os.path.realpath(each) for each in (*_SYSTEM, *_interpreter())]
    for each in dict.fromkeys(wholes):
        yield from (Rule(Path(path), READ) for path in beside(each, secret))
    for each in dict.fromkeys(map(os.path.realpath, sys.path)):
        if not _beneath(each, wholes):
            yield from _modules(each, secret)
    more = (*(_NETWORK if network else ()), *(_DRIVER if gpu else ()))
    yield from (Rule(Path(each), READ) for each in (*_SETUP, *_MACHINE, *more))
    # What is plugged in, by which libraries find out whether there is a GPU.
    yield from (Rule(path, READ) for path in Path("/sys/devices").glob("pci*"))
    yield from (Rule(Path(each), DEVICE) for each in _DEVICES)
    # Its own figures, limits and threads; not those of other processes.
    yield Rule(Path("/proc/self"), READ | Access.WRITE_FILE)
    if gpu:
        yield from (Rule(path, DEVICE | READ) for each in _GPUS for path in Path("/dev").glob(each))


def runnable(allowed: Iterable[Rule]) -> Iterator[Rule]:
    """The same, and what may be read alone may be run as well; what the process wrote itself may not."""
    yield from (Rule(path, access | Access.EXECUTE if access == READ else access) for path, access in allowed)


def beside(folder: str, secret: Sequence[str]) -> Iterator[str]:
    """A folder, or what of it lies beside what must not be opened. All paths are absolute and real."""
    if not any(_beneath(each, (folder,)) for each in secret):
        yield folder
    elif folder not in secret:
        for entry in _listed(folder):
            # Whatever a link leads to is allowed where it lies, or not.
            if not entry.is_symlink():
                yield from beside(entry.path, secret)


def _modules(folder: str, secret: Sequence[str]) -> Iterator[Rule]:
    """What can be imported from a folder that is no part of the interpreter.

    It may be somebody's project, even somebody's home: data beside the modules, and everything whose name
    begins with a dot, stays closed. The names of its files have to be open.
    """
    if not Path(folder).is_dir():
        yield Rule(Path(folder), READ)
        return
    yield Rule(Path(folder), Access.READ_DIR)
    endings = tuple(all_suffixes())
    for entry in _listed(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            real = os.path.realpath(entry.path)
            yield from (Rule(Path(path), READ) for path in beside(real, secret))
        elif entry.name.endswith(endings):
            yield Rule(Path(entry.path), READ)


def _interpreter() -> Iterator[str]:
    """Where Python, its packages and its shared libraries lie."""
    yield from (sys.prefix, sys.base_prefix, sys.exec_prefix)
    yield str(Path(__file__).parents[1])
    for entry in os.environ.get("LD_LIBRARY_PATH", "").split(":"):
        if entry:
            yield entry
    # Packages that are being worked on may be found by a hook that knows their folders.
    for name, module in tuple(sys.modules.items()):
        if name.startswith("__editable__"):
            yield from map(str, getattr(module, "MAPPING", {}).values())


def _beneath(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder.rstrip('/')}/") for folder in folders)


def _listed(folder: str) -> list[os.DirEntry[str]]:
    """The entries of a folder; none where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
