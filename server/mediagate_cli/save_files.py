"""Saving of outputs as files, and the summary that is printed of them."""

import errno
import itertools
import json
import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

import typer

from mediagate_cli.exit_codes import print_error
from mediagate_cli.output import to_json
from mediagate_cli.standard_streams import is_stdout_closed, write_stdout

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from mediagate.v1.generation_pb2 import Generation, RawOutput
    from mediagate.v1.medium_pb2 import Media
    from mediagate_client import AsyncClient

# Python's own table (mimetypes) differs from one machine to the next. The first one names a file.
_SUFFIXES: Final = {
    "application/json": (".json",),
    "application/pdf": (".pdf",),
    "application/zip": (".zip",),
    "audio/flac": (".flac",),
    "audio/mpeg": (".mp3",),
    "audio/ogg": (".ogg", ".oga", ".opus"),
    "audio/wav": (".wav",),
    "image/gif": (".gif",),
    "image/jpeg": (".jpg", ".jpeg"),
    "image/png": (".png",),
    "image/svg+xml": (".svg",),
    "image/webp": (".webp",),
    "text/plain": (".txt", ".md", ".text"),
    "video/mp4": (".mp4", ".m4v"),
    "video/webm": (".webm",),
}
_LONGEST_NAME: Final = 48
# The contract's name of a format, where it differs from the file name's ending.
_FORMATS: Final = {"jpg": "jpeg"}
_STDOUT: Final = "-"


@dataclass(frozen=True, slots=True)
class SaveTarget:
    """Where outputs are saved: options of every command that makes files."""

    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="File, or folder, to save to; `-` is stdout. Default: after the prompt.",
        ),
    ] = None
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Overwrite a file that is there.")
    ] = False

    def check(self, *, may_be_text: bool = False) -> None:
        """Raise BadParameter if nothing can be saved there, before anything is paid."""
        try:
            problem = self._problem(may_be_text)
        except OSError as error:
            problem = f"{self.output or 'the working folder'}: {error.strerror}"
        if problem:
            raise typer.BadParameter(problem, param_hint="--output")

    def is_stream(self) -> bool:
        """Whether it is stdout, a pipe or a device: written to, never replaced."""
        if self.output is None:
            return False
        path = Path(self.output)
        return self.output == _STDOUT or (
            path.exists() and not path.is_file() and not path.is_dir()
        )

    def _problem(self, may_be_text: bool) -> str:
        if self.output == "":
            return "it is empty"
        if self.output == _STDOUT:
            if is_stdout_closed():
                return "standard output is closed"
            is_refused = sys.stdout.isatty() and not may_be_text
            return "standard output is a terminal" if is_refused else ""
        if self.is_stream():
            return ""
        path = Path(self.output or ".")
        if not path.is_absolute():
            os.getcwd()  # noqa: PTH109 - fails where the folder was removed, which is_dir() does not see
        is_folder = path.is_dir() or (self.output or "").endswith("/")
        folder = path if is_folder else path.parent
        if not folder.is_dir():
            return f"there is no folder {folder}"
        if not os.access(folder, os.W_OK | os.X_OK):
            return f"the folder {folder} cannot be written"
        if path.is_file() and not self.force:
            return f"{path} is there already; --force overwrites it"
        return ""


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a generation: a medium to download, or a text that is at hand."""

    medium: "Media"
    text: str | None = None


def outputs_of(generation: "Generation") -> list[Output]:
    """Return the outputs of a generation: its media, or else its text or its JSON."""
    from mediagate.v1.medium_pb2 import Media
    from mediagate_client import media_of

    if media := media_of(generation):
        return [Output(medium) for medium in media]
    match generation.WhichOneof("output"):
        case "text" if generation.text.document.id:
            return [Output(generation.text.document)]
        case "text" if generation.text.text:
            return [Output(Media(media_type="text/plain"), generation.text.text)]
        case "raw" if generation.raw.document.id:
            return [Output(generation.raw.document)]
        case "raw" if generation.raw.HasField("value"):
            is_text = generation.raw.value.HasField("string_value")
            media_type = "text/plain" if is_text else "application/json"
            return [Output(Media(media_type=media_type), raw_text(generation.raw))]
    return []


def raw_text(raw: "RawOutput") -> str:
    """Return the output of any model: a text as it is, anything else as JSON."""
    value = to_json(raw.value)
    if isinstance(value, str):
        return value
    return raw.exact_json or json.dumps(value, ensure_ascii=False)


async def save_outputs(
    client: "AsyncClient", generation: "Generation", target: SaveTarget, prompt: str
) -> list[Path]:
    """Save all outputs of a generation; return the files, none where it is a stream.

    Without a target the files are named after the prompt, and no file that is there already is
    written over. Raises OSError, and MediagateError with the generation.
    """
    from mediagate_client import MediagateError

    outputs = outputs_of(generation)
    try:
        if target.is_stream():
            await _write_stream(client, outputs, target.output or _STDOUT)
            return []
        files = output_paths([output.medium for output in outputs], target, prompt)
        for output, file in zip(outputs, files, strict=True):
            await _save(client, output, file)
    except MediagateError as error:
        # It was made and paid all the same: the error message says so.
        error.generation = generation
        raise
    return files


async def _save(client: "AsyncClient", output: Output, file: Path) -> None:
    from mediagate_client.download import DEFAULT_MAX_BYTES, atomic_file

    try:
        if output.text is None:
            await client.download(output.medium, file)
        else:
            with atomic_file(output.medium, file, DEFAULT_MAX_BYTES) as write:
                write(output.text.encode())
    except OSError as error:
        # A write to an open file does not say which.
        error.filename = os.fspath(file)
        raise


async def _write_stream(client: "AsyncClient", outputs: "Sequence[Output]", path: str) -> None:
    """Write the only output to stdout, a pipe or a device. Raises OSError."""
    if len(outputs) > 1:
        raise OSError(errno.EINVAL, f"{len(outputs)} outputs do not go into one stream", path)
    for output in outputs:
        if output.text is not None and path == _STDOUT:
            is_open_line = sys.stdout.isatty() and not output.text.endswith("\n")
            await write_stdout(output.text + "\n" * is_open_line)
            continue
        if path == _STDOUT and sys.stdout.isatty():
            raise OSError(errno.EINVAL, f"{output.medium.media_type} is not for a terminal", path)
        with tempfile.TemporaryDirectory(prefix="mediagate-") as folder:
            file = Path(folder) / "output"
            await _save(client, output, file)
            _copy(file, path)


def _copy(file: Path, path: str) -> None:
    """Copy a file to stdout, a pipe or a device. Raises OSError."""
    with file.open("rb") as source:
        if path == _STDOUT:
            shutil.copyfileobj(source, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            try:
                with Path(path).open("wb") as stream:
                    shutil.copyfileobj(source, stream)
            except OSError as error:
                error.filename = path
                raise


def format_from_path(output: str | None, supported: "Collection[str]") -> str | None:
    """Return the format of a path's ending, if it is one of the supported ones."""
    if not output or Path(output).is_dir():
        return None
    ending = Path(output).suffix.removeprefix(".").lower()
    name = _FORMATS.get(ending, ending)
    return name if name in supported else None


def print_saved_files(generation: "Generation", files: "Sequence[Path]") -> None:
    """Print the paths, one a line; on stderr their properties, and the generation's cost."""
    from mediagate_cli.format import format_bytes

    for file, output in zip(files, outputs_of(generation), strict=False):
        medium = output.medium
        print(file)
        facts = [medium.media_type or "unknown type", format_bytes(file.stat().st_size)]
        if medium.HasField("width") and medium.HasField("height"):
            facts.append(f"{medium.width}x{medium.height}")
        if medium.HasField("duration"):
            facts.append(f"{medium.duration.ToTimedelta().total_seconds():g} s")
        print_error(f"  {', '.join(facts)}")
        suffixes = _SUFFIXES.get(medium.media_type, ())
        if suffixes and file.suffix and file.suffix.lower() not in suffixes:
            print_error(f"  {file.name} is {medium.media_type}, whatever its name says")
    print_summary(generation)


def print_summary(generation: "Generation") -> None:
    """Print on stderr what became of the parameters, what is missing, the model and the cost."""
    from mediagate_cli.format import stand_in_line, summary_line

    for report in generation.parameters:
        if report.handling > report.HANDLING_HONOURED:
            word = type(report).Handling.Name(report.handling).removeprefix("HANDLING_").lower()
            print_error(f"  {report.parameter} {word}: {report.reason or report.sent}")
    for missing in generation.partial.missing:
        print_error(f"  output {missing.index} is missing: {missing.error.message}")
    if generation.HasField("substitution"):
        print_error(stand_in_line(generation.model, generation.substitution))
    print_error(
        summary_line(generation.id, generation.model, generation.cost, sandbox=generation.sandbox)
    )


def output_paths(media: "Sequence[Media]", target: SaveTarget, prompt: str) -> list[Path]:
    """Return a path for each of the media. A file that is there is only taken with `force`."""
    path = Path(target.output) if target.output else None
    if path is not None and not path.is_dir():
        # A link stays: what it leads to is written.
        path = path.resolve() if path.is_symlink() else path
        numbered = [_numbered(path, number, len(media)) for number in range(1, len(media) + 1)]
        if target.force:
            return numbered
        return [
            _free(file.with_suffix(""), file.suffix, numbered[:at])
            for at, file in enumerate(numbered)
        ]
    stem = (path or Path()) / stem_of(prompt)
    files: list[Path] = []
    for medium in media:
        files.append(_free(stem, suffix_of(medium), files))
    return files


def _numbered(file: Path, number: int, count: int) -> Path:
    """Return the path itself for a single output, else with a number before its ending."""
    return file if count == 1 else file.with_name(f"{file.stem}-{number}{file.suffix}")


def _free(stem: Path, suffix: str, chosen: "Sequence[Path]") -> Path:
    """Return the first of stem.png, stem-2.png, stem-3.png and so on that is not there."""
    return next(
        file for file in _variants(stem, suffix) if file not in chosen and not file.exists()
    )


def _variants(stem: Path, suffix: str) -> "Iterator[Path]":
    yield stem.with_name(f"{stem.name}{suffix}")
    for number in itertools.count(2):
        yield stem.with_name(f"{stem.name}-{number}{suffix}")


def stem_of(prompt: str) -> str:
    """Return a short ASCII file name made of the prompt."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")
    if len(words) > _LONGEST_NAME:
        words = words[: _LONGEST_NAME + 1].rpartition("-")[0] or words[:_LONGEST_NAME]
    return words or "output"


def suffix_of(medium: "Media") -> str:
    """Return the ending of a file name: by media type, else as in the URL."""
    if suffixes := _SUFFIXES.get(medium.media_type):
        return suffixes[0]
    suffix = Path(urlsplit(medium.uri).path).suffix
    return suffix if re.fullmatch(r"\.\w{1,8}", suffix, re.ASCII) else ".bin"
