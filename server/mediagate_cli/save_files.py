"""Saving of outputs as files, and the summary that is printed of them."""

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import typer

from mediagate_cli.exit_codes import print_error

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from mediagate.v1.generation_pb2 import Generation
    from mediagate.v1.medium_pb2 import Media
    from mediagate_client import AsyncClient

# Python's own table (mimetypes) differs from one machine to the next.
_SUFFIXES: Final = {
    "audio/flac": ".flac",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/wav": ".wav",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
}
_LONGEST_NAME: Final = 48
# The contract's name of a format, where it differs from the file name's ending.
_FORMATS: Final = {"jpg": "jpeg"}


async def save_outputs(
    client: "AsyncClient", generation: "Generation", output: str | None, prompt: str
) -> "list[Path]":
    """Save all outputs of a generation; return the files.

    `output` is a file, or a folder that is there. Without it the files are named after the
    prompt, and no file that is there already is written over.
    """
    from mediagate_client import MediagateError, media_of

    media = media_of(generation)
    files = output_paths(media, output, prompt)
    for medium, file in zip(media, files, strict=True):
        try:
            await client.download(medium, file)
        except MediagateError as error:
            # It was made and paid all the same: the error message says so.
            error.generation = generation
            raise
    return files


def check_output_path(output: str | None) -> None:
    """Raise BadParameter if the folder is missing, before anything is paid."""
    if not output:
        return
    folder = Path(output) if output.endswith("/") else Path(output).parent
    if not folder.is_dir():
        raise typer.BadParameter(f"there is no folder {folder}", param_hint="--output")


def format_from_path(output: str | None, supported: "Collection[str]") -> str | None:
    """Return the format of a path's ending, if it is one of the supported ones."""
    if not output or Path(output).is_dir():
        return None
    ending = Path(output).suffix.removeprefix(".").lower()
    name = _FORMATS.get(ending, ending)
    return name if name in supported else None


def print_saved_file(generation: "Generation", files: "Sequence[Path]") -> None:
    """Print the paths, one a line; on stderr their properties, and the generation's cost."""
    from mediagate_cli.format import format_bytes, summary_line
    from mediagate_client import media_of

    for file, medium in zip(files, media_of(generation), strict=True):
        print(file)
        facts = [medium.media_type or "unknown type", format_bytes(file.stat().st_size)]
        if medium.HasField("width") and medium.HasField("height"):
            facts.append(f"{medium.width}x{medium.height}")
        if medium.HasField("duration"):
            facts.append(f"{medium.duration.ToTimedelta().total_seconds():g} s")
        print_error(f"  {', '.join(facts)}")
    adjusted = [
        report for report in generation.parameters if report.handling > report.HANDLING_HONOURED
    ]
    for report in adjusted:
        word = type(report).Handling.Name(report.handling).removeprefix("HANDLING_").lower()
        print_error(f"  {report.parameter} {word}: {report.reason or report.sent}")
    for missing in generation.partial.missing:
        print_error(f"  output {missing.index} is missing: {missing.error.message}")
    print_error(
        summary_line(generation.id, generation.model, generation.cost, sandbox=generation.sandbox)
    )


def output_paths(media: "Sequence[Media]", output: str | None, prompt: str) -> "list[Path]":
    """Return a path for each of the media."""
    path = Path(output) if output else None
    if path is not None and not path.is_dir():
        return [_numbered(path, number, len(media)) for number in range(1, len(media) + 1)]
    stem = (path or Path()) / stem_of(prompt)
    files: list[Path] = []
    for medium in media:
        suffix = suffix_of(medium)
        files.append(next(file for file in _variants(stem, suffix) if _is_free(file, files)))
    return files


def _numbered(file: Path, number: int, count: int) -> Path:
    """Return the path itself for a single output, else with a number before its ending."""
    return file if count == 1 else file.with_name(f"{file.stem}-{number}{file.suffix}")


def _variants(stem: Path, suffix: str) -> "Iterator[Path]":
    """Return stem.png, stem-2.png, stem-3.png and so on."""
    yield stem.with_name(f"{stem.name}{suffix}")
    for number in itertools.count(2):
        yield stem.with_name(f"{stem.name}-{number}{suffix}")


def _is_free(file: Path, chosen: "Sequence[Path]") -> bool:
    return file not in chosen and not file.exists()


def stem_of(prompt: str) -> str:
    """Return a short ASCII file name made of the prompt."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")
    if len(words) > _LONGEST_NAME:
        words = words[: _LONGEST_NAME + 1].rpartition("-")[0] or words[:_LONGEST_NAME]
    return words or "output"


def suffix_of(medium: "Media") -> str:
    """Return the ending of a file name: by media type, else as in the URL."""
    return _SUFFIXES.get(medium.media_type) or Path(urlsplit(medium.uri).path).suffix or ".bin"
