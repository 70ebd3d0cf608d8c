"""Who answers, who can reach us, and what cannot be set."""

import pytest
from pydantic import SecretStr

from mediagate_server.config import REPLICATE_API, ConfigError, Settings, is_loopback
from mediagate_server.config.setting_names import UNIMPLEMENTED

TOKEN = SecretStr("r8_token")
OTHER = "http://127.0.0.1:8787"


@pytest.mark.parametrize(
    ("settings", "kind", "base_url", "token"),
    [
        (Settings(), "sandbox", "", "sandbox"),
        (Settings(replicate_api_token=TOKEN), "replicate", REPLICATE_API, "r8_token"),
        (Settings(upstream="sandbox", replicate_api_token=TOKEN), "sandbox", "", "sandbox"),
        (
            Settings(upstream="replicate", replicate_api_token=TOKEN),
            "replicate",
            REPLICATE_API,
            "r8_token",
        ),
        (Settings(upstream_url=OTHER), "url", OTHER, None),
        (Settings(upstream_url=OTHER, replicate_api_token=TOKEN), "url", OTHER, "r8_token"),
        (Settings(upstream_url=OTHER, upstream="sandbox"), "url", OTHER, None),
        (Settings(upstream_url=OTHER, upstream="replicate"), "url", OTHER, None),
    ],
)
def test_choice_of_upstream(
    settings: Settings, kind: str, base_url: str, token: str | None
) -> None:
    """A URL beats a name, a name beats a guess; the sandbox never gets the operator's token."""
    choice = settings.upstream_choice()
    assert (choice.kind, choice.base_url, choice.token) == (kind, base_url, token)


def test_replicate_without_a_token() -> None:
    """It is refused, with both ways out."""
    with pytest.raises(ConfigError) as raised:
        Settings(upstream="replicate").upstream_choice()
    assert "REPLICATE_API_TOKEN" in str(raised.value)
    assert "MEDIAGATE_UPSTREAM=sandbox" in str(raised.value)


LOOPBACK = [
    "127.0.0.1:50051",
    "127.9.9.9:0",
    "localhost:50051",
    "[::1]:50051",
    "unix:/run/mediagate.sock",
    "unix:///run/mediagate.sock",
]
PUBLIC = [
    "0.0.0.0:50051",
    "[::]:50051",
    "*:50051",
    "0:50051",
    "10.0.0.1:50051",
    "192.168.1.5:50051",
    "[fe80::1]:50051",
    "[::ffff:0.0.0.0]:50051",
    "example.com:50051",
    "localhost.example.com:50051",
    "127.0.0.1.example.com:50051",
    "2130706433:50051",
    "127.1:50051",
]
NO_ADDRESS = [
    "",
    "127.0.0.1",
    ":50051",
    "127.0.0.1:",
    "127.0.0.1:65536",
    "127.0.0.1:-1",
    "127.0.0.1:x",
    "127.0.0.1:٣",
    "::1:50051",
    "[::1]",
    "[zz]:1",
    "[::1:1",
    "http://127.0.0.1:50051",
    "ipv4:127.0.0.1:50051",
    "127.0.0.1:50051,0.0.0.0:50051",
    "127.0.0.1 :50051",
]


@pytest.mark.parametrize("address", LOOPBACK)
def test_loopback_addresses_need_no_permission(address: str) -> None:
    """These need no permission."""
    assert is_loopback(address)
    Settings(grpc_address=address).check_exposure()


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_need_permission(address: str) -> None:
    """These are refused, unless somebody says so in as many words."""
    assert not is_loopback(address)
    with pytest.raises(ConfigError) as raised:
        Settings(grpc_address=address).check_exposure()
    assert "MEDIAGATE_INSECURE_PUBLIC=1" in str(raised.value)
    Settings(grpc_address=address, insecure_public=True).check_exposure()


@pytest.mark.parametrize("address", NO_ADDRESS)
def test_invalid_addresses(address: str) -> None:
    """It is neither listened on nor taken for loopback."""
    assert not is_loopback(address)
    with pytest.raises(ValueError, match="IPv6"):
        Settings(grpc_address=address)


def test_unix_sockets_are_for_grpc_only() -> None:
    """The web ports are TCP."""
    with pytest.raises(ValueError, match="HOST:PORT"):
        Settings(ops_address="unix:/run/ops.sock")


@pytest.mark.parametrize(
    "url",
    ["ftp://x", "//x", "x", "http://", "http://u@h", "http://h?q=1", "http://h#f", "http://h:0"],
)
def test_invalid_upstream_urls(url: str) -> None:
    """Plain http or https to a host; nothing that would be sent in place of the token."""
    with pytest.raises(ValueError, match="must"):
        Settings(upstream_url=url)


def test_replicate_webhooks_require_https() -> None:
    """A create that names another address would be refused, and so every call would fail."""
    with pytest.raises(ConfigError, match="public_url must be https"):
        Settings(public_url="http://gate", replicate_api_token=SecretStr("t")).check_public_url()
    Settings(public_url="https://gate", replicate_api_token=SecretStr("t")).check_public_url()
    Settings(public_url="http://gate", upstream_url="http://other").check_public_url()
    Settings(public_url="http://gate").check_public_url()


def test_settings_are_immutable() -> None:
    """They are facts; another configuration is another object."""
    settings = Settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.max_in_flight = 1


@pytest.mark.parametrize("name", sorted(UNIMPLEMENTED))
def test_unimplemented_settings_cannot_be_set(name: str) -> None:
    """It is refused: a server that ignored it would only look as if it was used."""
    with pytest.raises(ValueError, match="is not built yet") as raised:
        Settings.model_validate({name: SecretStr("kind://user:hush@host")})
    assert "hush" not in str(raised.value)
    for nothing in (None, SecretStr("")):
        assert getattr(Settings.model_validate({name: nothing}), name) is None
