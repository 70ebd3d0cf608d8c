"""From where outputs may be fetched. Decided on the URL as the HTTP library will use it."""

from yarl import URL

from mediagate_server.replicate.media_references import is_delivery_place
from mediagate_server.request_url import parse_request_url, resolve_redirect


class NotAllowed(Exception):
    """The link leads to a place from which the gate fetches nothing."""


def may_fetch(link: str, upstream: URL, *, seen_from: URL | None = None) -> URL:
    """The link, parsed once; what redirects from `seen_from` may be relative. Raises NotAllowed.

    Path and query are asked for letter for letter: links may be signed.

    Allowed: https on replicate.delivery and its subdomains, in the bucket of Google's where
    Replicate keeps files, and where the configured upstream itself is: that host, that port, that
    scheme. What a model answers must not be able to point the gate at other machines, nor at what
    else listens on upstream's.
    """
    try:
        url = resolve_redirect(seen_from, link) if seen_from else parse_request_url(link)
        host, port = url.raw_host or "", url.port
    except ValueError as unreadable:
        raise NotAllowed from unreadable
    if not port:
        raise NotAllowed
    delivered = url.scheme == "https" and is_delivery_place(host, port, url.raw_path)
    own = url.scheme == upstream.scheme and is_upstreams(host, port, upstream)
    if not delivered and not own:
        raise NotAllowed
    return url


def is_upstreams(host: str, port: int, upstream: URL) -> bool:
    """Whether that is where the configured upstream is; `host` in ASCII, as it is looked up."""
    return (host.lower(), port) == ((upstream.raw_host or "").lower(), upstream.port)
