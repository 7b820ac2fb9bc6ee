"""Gives every case of the corpus to ``add`` and ``inspect`` in one interpreter that watches itself.

Called as ``python hostile_child.py FOLDER CANARY CORPUS``; writes a JSON record of what became of each case.
"""

import json
import pickle
import sys
import tempfile
from pathlib import Path
from typing import Any

#: Events that must not be seen while a hostile file is looked at; of some only those that name something.
FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.putenv",
    "subprocess.Popen",
    "socket.connect", "socket.bind", "socket.getaddrinfo", "pty.spawn", "pickle.find_class",
    "ctypes.dlopen", "webbrowser.open", "urllib.Request", "shutil.rmtree", "code.__new__", "function.__new__",
)  # fmt: skip
seen: list[str] = []
watching = False


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Note what must not happen."""
    if not watching:
        return
    if event in FORBIDDEN and not (
        event == "shutil.rmtree" and str(arguments[0]).startswith(tempfile.gettempdir())
    ):
        seen.append(f"{event} {str(arguments[:2])[:120]}")
    elif event == "exec" and getattr(arguments[0], "co_filename", "<string>") == "<string>":
        seen.append(f"exec {arguments[0]}")
    elif event == "import" and str(arguments[0]) in GADGETS:
        seen.append(f"import {arguments[0]}")
    elif event == "open" and str(arguments[0]) == CANARY and arguments[1] not in ("r", "rb"):
        seen.append("open of the canary")


GADGETS: frozenset[str] = frozenset()
CANARY = ""


def outcome(work: Any) -> dict[str, Any]:
    """What became of one call."""
    from servable.errors import ServableError

    global watching
    seen.clear()
    watching = True
    try:
        found = work()
        told, kind = "", "done"
        clean = getattr(found, "clean", None)
    except ServableError as error:
        told, kind, clean = error.message, "refused", False
    except BaseException as error:  # noqa: BLE001 - a traceback is what must not be
        told, kind, clean = repr(error), "raised", None
    finally:
        watching = False
    return {"kind": kind, "told": told, "clean": clean, "seen": sorted(set(seen))}


def main() -> None:
    """Make the corpus and go through it."""
    global GADGETS, CANARY
    folder, canary, corpus = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    import hostile
    from servable.workflows.add import add
    from servable.workflows.inspecting import inspect

    sys.path.insert(0, str(folder / "importable"))
    (folder / "importable").mkdir()
    (folder / "importable" / "hostile_payload.py").write_bytes(hostile.payload(canary))
    cases = getattr(hostile, corpus)(folder, canary)
    CANARY = str(canary)
    # What the libraries import by themselves at first use is imported before.
    kinds = {case.path.suffix or case.name: case for case in cases}
    for case in kinds.values():
        for work in (
            lambda case=case: add(case.path, name="m", home=folder / "warm"),
            lambda case=case: inspect(case.path),
        ):
            outcome(work)
    GADGETS = frozenset(
        {"hostile_payload", *(module for module, *_ in hostile.gadgets(canary).values())}
    ) - set(sys.modules)
    sys.addaudithook(hook)
    if canary.exists():
        raise SystemExit("a hostile file was executed while libraries were imported")
    hostile_pickle = hostile.call("os", "system", (f"touch {canary}",), 4)
    found: dict[str, Any] = {"control": outcome(lambda: pickle.loads(hostile_pickle))}
    found["control"]["canary"] = canary.exists()
    canary.unlink(missing_ok=True)
    for case in cases:
        added = outcome(lambda case=case: add(case.path, name="m", home=folder / "home"))
        looked = outcome(lambda case=case: inspect(case.path))
        found[case.name] = {"added": added, "looked": looked, "canary": canary.exists()}
        canary.unlink(missing_ok=True)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
