"""From where outputs are fetched, and from where never."""

import pytest
from yarl import URL

from mediagate_server.media.downloader import DownloadNotAllowed, check_download_url
from mediagate_server.network.egress_policy import is_private_host, is_public_address

REPLICATE = URL("https://api.replicate.com/v1")
SANDBOX = URL("http://127.0.0.1:8787/v1")


@pytest.mark.parametrize(
    "link",
    [
        "https://replicate.delivery/pbxt/a/out-0.png",
        "https://pb.replicate.delivery/a.png",
        "https://a.b.REPLICATE.delivery:443/a.png?x=1",
        "https://api.replicate.com/v1/files/a/download",
        "https://api.replicate.com:443/v1/files/a/download",
        "https://storage.googleapis.com/replicate-files/abc/file",
        "https://storage.googleapis.com:443/replicate-files/a%20b/out-0.png?X-Goog-Signature=ab",
        "https://storage.googleapis.com/replicate-files/a..b/.c",
    ],
)
def test_replicates_delivery_hosts_are_allowed(link: str) -> None:
    """By https, its own hosts."""
    assert check_download_url(link, REPLICATE) == URL(link)


@pytest.mark.parametrize(
    "link",
    [
        "http://replicate.delivery/a.png",
        "https://replicate.delivery.example.com/a.png",
        "https://notreplicate.delivery/a.png",
        "https://replicate.delivery@example.com/a.png",
        "https://user:word@replicate.delivery/a.png",
        "https://example.com/https://replicate.delivery/a.png",
        "https://169.254.169.254/latest/meta-data",
        "https://127.0.0.1/a",
        "http://127.0.0.1:8787/files/a",
        "http://api.replicate.com/v1/files/a",
        "https://api.replicate.com:8443/v1/files/a",
        "https://[::1]/a",
        "https://2130706433/a",
        "file:///etc/passwd",
        "ftp://replicate.delivery/a",
        "//replicate.delivery/a",
        "replicate.delivery/a",
        "https:///a",
        "https://replicate.delivery:0/a",
        "https://[bad/a",
        "http://storage.googleapis.com/replicate-files/a",
        "https://storage.googleapis.com:8443/replicate-files/a",
        "https://storage.googleapis.com/",
        "https://storage.googleapis.com/replicate-files",
        "https://storage.googleapis.com/replicate-files?/a",
        "https://storage.googleapis.com/other/a",
        "https://storage.googleapis.com/Replicate-Files/a",
        "https://storage.googleapis.com/replicate-files-2/a",
        "https://storage.googleapis.com//replicate-files/a",
        "https://storage.googleapis.com/other/replicate-files/a",
        "https://storage.googleapis.com/replicate%2Dfiles/a",
        "https://storage.googleapis.com/replicate-files%2Fa",
        "https://storage.googleapis.com/replicate-files/../other/a",
        "https://storage.googleapis.com/replicate-files/x/../../other/a",
        "https://storage.googleapis.com/replicate-files/..?",
        "https://storage.googleapis.com/replicate-files/%2e%2e/other/a",
        "https://storage.googleapis.com/replicate-files/.%2E/other/a",
        "https://storage.googleapis.com/replicate-files/%252e%252e/other/a",
        "https://storage.googleapis.com/replicate-files/%25252e%25252e/other/a",
        "https://storage.googleapis.com/replicate-files/..%2Fother/a",
        "https://storage.googleapis.com/replicate-files/..%5Cother/a",
        "https://storage.googleapis.com/replicate-files/..\\other\\a",
        "https://storage.googleapis.com/replicate-files/./a",
        "https://replicate-files.storage.googleapis.com/a",
        "https://storage.googleapis.com.example.com/replicate-files/a",
        "https://storage.googleapis.com@example.com/replicate-files/a",
        "https://storage.googleapis.com./replicate-files/a",
        "",
        "data:image/png;base64,AAAA",
    ],
)
def test_other_urls_are_refused(link: str) -> None:
    """Whatever a model answers."""
    with pytest.raises(DownloadNotAllowed):
        check_download_url(link, REPLICATE)


def test_a_configured_upstream_serves_its_own_files() -> None:
    """On this machine too, as it is reached itself: no other host, port or scheme."""
    assert check_download_url("http://127.0.0.1:8787/files/a#part", SANDBOX).fragment == ""
    for link in (
        "http://127.0.0.1:9000/files/a",
        "http://127.0.0.1/files/a",
        "https://127.0.0.1:8787/files/a",
        "http://127.0.0.2:8787/a",
        "http://localhost:8787/a",
        "http://[::1]:8787/a",
    ):
        with pytest.raises(DownloadNotAllowed):
            check_download_url(link, SANDBOX)


def test_a_redirect_may_be_relative() -> None:
    """And is looked at like any other link."""
    seen = URL("https://replicate.delivery/a/b.png")
    assert check_download_url("../c.png", REPLICATE, redirected_from=seen) == URL(
        "https://replicate.delivery/c.png"
    )
    with pytest.raises(DownloadNotAllowed):
        check_download_url("//example.com/c.png", REPLICATE, redirected_from=seen)
    stored = "https://storage.googleapis.com/replicate-files/a"
    assert str(check_download_url(stored, REPLICATE, redirected_from=seen)) == stored
    for out in ("/other/a", "../other/a", "/replicate-files/%2e%2e/other", "//example.com/"):
        with pytest.raises(DownloadNotAllowed):
            check_download_url(out, REPLICATE, redirected_from=URL(stored, encoded=True))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("151.101.1.69", True),
        ("2606:4700::6810:84e5", True),
        ("64:ff9b::9765:145", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),  # noqa: S104 - not bound, refused
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:7f00:1::", False),
        ("2001:0:53aa:64c:0:0:80ff:fffe", False),
    ],
)
def test_public_addresses(address: str, expected: bool) -> None:
    """Also where one is hidden in another."""
    assert is_public_address(address) is expected


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "::1",
        "::ffff:10.0.0.1",
        "fd00::1",
    ],
)
def test_private_host_names(host: str) -> None:
    """In every form that a resolver takes."""
    assert is_private_host(host)


@pytest.mark.parametrize(
    "host", ["example.com", "151.101.1.69", "2606:4700::6810:84e5", "0x.example.com", "1.2.3.4.com"]
)
def test_public_host_names(host: str) -> None:
    """As far as the name tells."""
    assert not is_private_host(host)
