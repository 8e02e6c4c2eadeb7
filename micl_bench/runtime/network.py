"""A check, within seconds, that a server can be reached: without a network, waiting is no use."""

import os
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

from micl_bench.runtime.errors import InputError

_SECONDS = 3.0
_PORTS = {"https": 443, "http": 80}
_BESIDE_THE_HUB = ("https://github.com", "https://dl.fbaipublicfiles.com")
"""Servers of those of timm's weights that are not on the hub."""


class UnreachableError(Exception):
    """The server was not reached, or stopped answering."""


def check_reachable(url: str) -> None:
    """Open a connection to the address's server, or to the proxy in front of it, and close it.

    Raises:
        UnreachableError: it was refused, or did not come about in some seconds.
    """
    # Here and below: `micl-bench --help` has no use for them, and they take a sixth of its time.
    import urllib.request

    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.netloc):
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 443)
    failures: list[str] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=_SECONDS).close()
        except OSError as error:
            failures.append(error.strerror or str(error) or type(error).__name__)

    # The look-up of a name knows no time limit.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_SECONDS)
    if thread.is_alive() or failures:
        raise UnreachableError(failures[0] if failures else f"no answer in {_SECONDS:g} s")


def weights_out_of_reach(name: str, server: str, error: UnreachableError) -> InputError:
    """Return the error where timm's weights are on no disk here and their server is not reached."""
    return InputError(
        f"the weights of {name} are not in the cache, and {server} was not reached ({error}); "
        "without a network, download them elsewhere and give the file"
    )


def check_source(source: str) -> str:
    """Return a checkpoint's source as it is, unless it is `timm:NAME` on a machine that cannot get it.

    timm, which knows where each of its weights is, takes seconds to import; where no download of
    anybody's is in a cache and no server of weights is reached, none can be had.

    Raises:
        InputError: the weights cannot be had.
    """
    name = source.removeprefix("timm:")
    if name == source or _has_downloads():
        return source
    from concurrent.futures import ThreadPoolExecutor, as_completed

    from huggingface_hub import constants

    def failure(server: str) -> UnreachableError | None:
        if server == constants.ENDPOINT and constants.HF_HUB_OFFLINE:
            return UnreachableError("HF_HUB_OFFLINE is set")
        try:
            check_reachable(server)
        except UnreachableError as error:
            return error
        return None

    pool = ThreadPoolExecutor(max_workers=1 + len(_BESIDE_THE_HUB))
    hub, *others = [pool.submit(failure, one) for one in (constants.ENDPOINT, *_BESIDE_THE_HUB)]
    # One that answers is enough, however long the others take.
    pool.shutdown(wait=False)
    if all(one.result() for one in as_completed([hub, *others])) and (error := hub.result()):
        raise weights_out_of_reach(name, constants.ENDPOINT, error)
    return source


def _has_downloads() -> bool:
    """Return True where the cache of the hub's client or of `torch.hub` holds anything."""
    from huggingface_hub import constants

    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "torch"
    torch_home = Path(os.environ.get("TORCH_HOME") or home).expanduser()
    found = (
        any(folder.glob(pattern))
        for folder, pattern in (
            (Path(constants.HF_HUB_CACHE), "models--*"),
            (torch_home / "hub" / "checkpoints", "*"),
        )
    )
    try:
        return any(found)
    except OSError:
        return True
