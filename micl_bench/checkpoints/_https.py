"""An opener of HTTPS addresses alone; urllib's own also reads files and FTP, and follows to HTTP."""

import urllib.request
from typing import IO, Any
from urllib.parse import urlsplit


class RefusedRedirectError(Exception):
    """The server points at an address that is not asked."""


def is_allowed(url: str, plain_http_host: str) -> bool:
    """Whether an address may be asked."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return True
    return parts.scheme == "http" and bool(plain_http_host) and parts.netloc == plain_http_host


def https_opener(plain_http_host: str) -> urllib.request.OpenerDirector:
    """What follows redirects to other HTTPS addresses only.

    Args:
        plain_http_host: `host:port` that may be asked without TLS; empty for none.
    """

    class Redirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(
            self, req: Any, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
        ) -> urllib.request.Request | None:
            if not is_allowed(newurl, plain_http_host):
                raise RefusedRedirectError(newurl)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

        def http_error_302(self, req: Any, fp: IO[bytes], code: int, msg: str, headers: Any) -> Any:
            # urllib judges file: and the like before it asks `redirect_request`.
            target = headers.get("Location", "")
            if urlsplit(target).scheme and not is_allowed(target, plain_http_host):
                raise RefusedRedirectError(target)
            return super().http_error_302(req, fp, code, msg, headers)

        http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        Redirects,
    ):
        opener.add_handler(handler())
    return opener
