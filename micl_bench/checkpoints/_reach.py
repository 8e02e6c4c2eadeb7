"""Whether a server can be reached at all, known within seconds: without a network, waiting is no use."""

import socket
import threading
import urllib.request
from urllib.parse import urlsplit

_SECONDS = 3.0
_PORTS = {"https": 443, "http": 80}


class UnreachableError(Exception):
    """The server was not reached, or stopped answering."""


def check_reachable(url: str) -> None:
    """Open a connection to the address's server, or to the proxy in front of it, and close it.

    Raises:
        UnreachableError: it was refused, or did not come about in some seconds.
    """
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
