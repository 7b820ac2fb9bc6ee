"""The main roads from data to answers, run as a program of its own by ``test_no_downloads``."""

import importlib
import pkgutil
import sys
from pathlib import Path

import httpx

import servable

#: Modules of libraries that an environment need not have, and of programs that run when they are imported.
_ABSENT = (ImportError,)


def everything() -> int:
    """Import every module that can be imported here."""
    count = 0
    for found in pkgutil.walk_packages(servable.__path__, "servable."):
        if found.name.endswith("__main__") or ".migrations." in found.name:
            continue
        try:
            importlib.import_module(found.name)
        except _ABSENT as error:
            # Only a library from elsewhere may be missing.
            if (error.name or "").startswith("servable"):
                raise
            continue
        count += 1
    return count


def main() -> None:
    folder = Path(sys.argv[1])
    home, csv = folder / "home", folder / "rows.csv"
    assert everything() > 300
    lines = ["a,b,word,label"]
    lines += [
        f"{n % 7},{n % 5},{'red' if n % 3 else 'blue'},{'yes' if n % 7 > 3 else 'no'}" for n in range(300)
    ]
    csv.write_text("\n".join(lines) + "\n")
    servable.train(
        csv, target="label", name="rows", model="logistic", time_budget_s=0.1, deploy=True, home=home
    )
    servable.optimize("rows", home=home)
    servable.drift("rows", csv, home=home, report=folder / "drift.html")
    servable.deploy("rows", executor="process", home=home)
    row = {"a": 1, "b": 2, "word": "red"}
    with (
        servable.serve(home=home, port=0, background=True, workers=2) as server,
        servable.Client(server.url) as client,
    ):
        assert client.predict("rows", row).prediction in ("yes", "no")
        for path in ("/", "/docs", "/openapi.json", "/metrics", "/models/rows/report"):
            assert httpx.get(server.url + path, headers={"accept": "text/html"}).status_code == 200
    print("done")


if __name__ == "__main__":
    main()
