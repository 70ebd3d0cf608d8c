"""From where outputs may be fetched. Decided on the URL as the HTTP library will use it."""

from yarl import URL

_DELIVERY = "replicate.delivery"


class NotAllowed(Exception):
    """The link leads to a place from which the gate fetches nothing."""


def may_fetch(link: str, upstream: URL, *, seen_from: URL | None = None) -> URL:
    """The link, parsed once; what redirects from `seen_from` may be relative. Raises NotAllowed.

    Allowed: https on replicate.delivery and its subdomains, and where the configured upstream
    itself is: that host, that port, that scheme. What a model answers must not be able to point
    the gate at other machines, nor at what else listens on upstream's.
    """
    try:
        url = seen_from.join(URL(link)) if seen_from else URL(link)
        host, port = (url.host or "").lower(), url.port
    except ValueError as unreadable:
        raise NotAllowed from unreadable
    if not host or not port or url.user is not None or url.password is not None:
        raise NotAllowed
    delivered = url.scheme == "https" and (host == _DELIVERY or host.endswith(f".{_DELIVERY}"))
    own = url.scheme == upstream.scheme and is_upstreams(host, port, upstream)
    if not delivered and not own:
        raise NotAllowed
    return url.with_fragment(None)


def is_upstreams(host: str, port: int, upstream: URL) -> bool:
    """Whether that is where the configured upstream is."""
    return (host.lower(), port) == ((upstream.host or "").lower(), upstream.port)
