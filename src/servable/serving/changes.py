"""What the repository of a server may be told by its callers: to have a model in memory, or to let it go."""

from servable.errors import InputError
from servable.serving.host import Host
from servable.serving.live import Cold


async def change(host: Host, reference: str, load: bool) -> None:
    """Load a model, or unload one that is loaded on demand; does nothing where that is so already.

    Desired state stays as it is: the next call loads again what was unloaded.

    Args:
        host: of this process; others have models of their own.
        reference: of the model.
        load: or unload.

    Raises:
        InputError: its deployment keeps it in memory.
        ServableError: as ``Host.find`` and ``Cold.warm``.
    """
    found = host.find(reference)
    if load:
        if isinstance(found, Cold):
            await found.warm(reference)
    elif not await host.cool(found):
        raise InputError(
            f"{found.model} stays loaded because its deployment wants it; "
            f"take it back with: servable undeploy {found.model}."
        )
