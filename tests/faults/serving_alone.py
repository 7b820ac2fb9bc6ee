"""A server process of one model: opens a process executor, says the child's id, and sleeps."""

import asyncio
import sys
from pathlib import Path

from servable.artifact.package import digest_of
from servable.runtime.process import ChildSpec, ProcessExecutor


async def main(folder: Path) -> None:
    executor = ProcessExecutor(ChildSpec(folder, digest_of(folder), "trained"), name="sum")
    await executor.open()
    print(executor.pids[0], flush=True)
    await asyncio.sleep(600)


asyncio.run(main(Path(sys.argv[1])))
