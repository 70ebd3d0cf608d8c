"""From where outputs may be fetched. Decided on the URL as the HTTP library will use it."""

from yarl import URL

_DELIVERY = "replicate.delivery"


class NotAllowed(Exception):
    """The link leads to a place from which the gate fetches nothing."""


def may_fetch(link: str, upstream: URL, *, seen_from: URL | None = None) -> URL:
    """The link, parsed once; what redirects from `seen_from` may be relative. Raises NotAllowed.

    Allowed: https on replicate.delivery and its subdomains, and the host of the configured
    upstream, on any port of it and by plain http only where upstream itself is reached so. What
    a model answers must not be able to point the gate at other machines.
    """
    try:
        url = seen_from.join(URL(link)) if seen_from else URL(link)
        host, port = (url.host or "").lower(), url.port
    except ValueError as unreadable:
        raise NotAllowed from unreadable
    if not host or not port or url.user is not None or url.password is not None:
        raise NotAllowed
    delivered = host == _DELIVERY or host.endswith(f".{_DELIVERY}")
    own = is_upstreams(url, upstream)
    if not (url.scheme == "https" and (delivered or own)) and not (
        url.scheme == upstream.scheme and own
    ):
        raise NotAllowed
    return url.with_fragment(None)


def is_upstreams(url: URL, upstream: URL) -> bool:
    """Whether it is on the configured upstream's own host."""
    return (url.host or "").lower() == (upstream.host or "").lower()
