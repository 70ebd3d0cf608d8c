"""A refusal that is told like a failure, or in another language, is none that may be sent on."""

from itertools import product

import pytest

from mediagate_server.generations.transitions.content_refusals import (
    RunFailureKind,
    classify_failure,
)

FAILURES = ["Failed to get output", "Unable to open result", "Server error", "Failed to run",
            "Client error '422 Unprocessable Entity' for url", "invalid input", "Failed to load",
            "Failed to load image", "Internal server error", "RuntimeError", "Failed to fetch",
            "Permission denied", "Failed to call the model", "Bad gateway",
            "validation error"]  # fmt: skip
REASONS = ["content moderation", "prohibited prompt", "content policy", "sensitive content",
           "NSFW", "your request has been denied", "the request was declined",
           "inappropriate image", "unsafe output",
           "votre requête a été refusée", "abgelehnt"]  # fmt: skip
OTHER_LANGUAGES = [
    "Votre requête a été refusée",
    "Votre requete a ete refusee",
    "Contenu bloqué",
    "Cette image n'est pas autorisée",
    "Solicitud rechazada por contenido",
    "La solicitud fue bloqueada",
    "El texto no está permitido",
    "Ihre Anfrage wurde abgelehnt",
    "Die Anfrage wurde aus Sicherheitsgründen blockiert",
    "Inhalt nicht erlaubt",
    "Sua solicitação foi recusada",
    "Pedido rejeitado por segurança",
    "Imagem proibida",
    "La richiesta è stata rifiutata",
    "Richiesta bloccata",
    "Immagine non consentita",
    "Uw verzoek is geweigerd",
    "Żądanie zostało odrzucone",
    "İstek reddedildi",
    "Permintaan ditolak",
    "Yêu cầu của bạn bị từ chối",
    "Något gick fel",
]


@pytest.mark.parametrize(("failure", "reason"), [*product(FAILURES, REASONS)])
def test_failures_that_mention_the_content(failure: str, reason: str) -> None:
    """Nobody knows which of the two it is."""
    for text in (f"{failure}: {reason}", f"{failure} - {reason}.", f"{failure} ({reason})"):
        assert classify_failure(text) is not RunFailureKind.OTHER, text


@pytest.mark.parametrize("text", OTHER_LANGUAGES)
def test_refusals_in_other_latin_languages(text: str) -> None:
    """With their accents and, as some write, without."""
    assert classify_failure(text) is not RunFailureKind.OTHER
    assert classify_failure(f"Server error: {text.upper()}") is not RunFailureKind.OTHER


@pytest.mark.parametrize(
    "text",
    [
        "moderation service timed out",
        "Server error: the content filter is overloaded",
        "failed to load the safety checker: see the log",
        "Error: failed to download safety_checker weights",
        "content moderation: 503 Service Unavailable",
        "Failed to get output: read timeout",
        "Failed to run: out of memory",
        "Client error '404 Not Found' for url 'https://example.com/a.png'",
        "Server error, please try again",
    ],
)
def test_failures_of_the_filter_itself(text: str) -> None:
    """Nothing was refused: another model may be asked."""
    assert classify_failure(text) is RunFailureKind.OTHER
