"""Documents that are no predictions: whatever stands in them, they are read or are no answer."""

from datetime import UTC, datetime

import pytest

from mediagate_server.upstream.documents.json_parser import split_elements
from mediagate_server.upstream.port import NoResponse, RequestRefused
from mediagate_server.upstream.replicate.client import decode_file
from mediagate_server.upstream.replicate.error_mapping import error_for_response
from mediagate_server.upstream.replicate.model_decoding import decode_model

NOW = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "link", ["5", "null", "[]", "{}", "true", '"x"', '"https://["', '""', "NaN"]
)
def test_a_file_without_a_url_is_an_unusable_response(link: str) -> None:
    """Whatever stands where the link belongs."""
    with pytest.raises(NoResponse):
        decode_file(f'{{"urls":{{"get":{link}}}}}'.encode())


@pytest.mark.parametrize("levels", [101, 1_000, 100_000])
def test_a_too_deeply_nested_example_is_ignored(levels: int) -> None:
    """What is deep is as if it were not there; the rest is read."""
    nested = "[" * levels + "]" * levels
    body = f'{{"owner":"a","name":"b","is_official":true,"default_example":{nested},"x":NaN}}'
    assert decode_model(body.encode()).slug == "a/b"


@pytest.mark.parametrize("seconds", ["1e308", "-1", "NaN", "true", "9" * 400, "1e400", '"2"'])
def test_example_seconds_is_a_number_or_none(seconds: str) -> None:
    """Estimates are made of it."""
    metrics = f'{{"metrics":{{"predict_time":{seconds}}}}}'
    body = f'{{"owner":"a","name":"b","default_example":{metrics}}}'
    assert decode_model(body.encode()).example_seconds is None


@pytest.mark.parametrize("status", [400, 404, 422, 429])
@pytest.mark.parametrize("levels", [50, 100, 990, 100_000])
def test_a_refusal_with_a_deeply_nested_detail_is_still_a_refusal(status: int, levels: int) -> None:
    """Nobody walks down into them."""
    nested = "[" * levels + "]" * levels
    body = f'{{"detail":{nested},"invalid_fields":[{{"field":{nested},"description":1}}]}}'
    assert isinstance(error_for_response(status, {}, body.encode(), NOW), RequestRefused)


def test_list_elements_are_split_whatever_they_contain() -> None:
    """Commas and brackets within texts and deeper down are none of the outermost."""
    elements = [b"1", b' "a,[\\\\\\"]," ', b'[[1,2],{"a":[3,4]}]', b"{}", b'""']
    assert list(split_elements(b" [" + b",".join(elements) + b"] ", b"[")) == elements
    assert list(split_elements(b"[ ]", b"[")) == []
    for broken in (b"[1,2", b"[1]]", b"1", b"", b"[1]x", b'["]'):
        with pytest.raises(NoResponse):
            list(split_elements(broken, b"["))
