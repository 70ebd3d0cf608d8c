"""Command `audio`: music, sound effects and speech as files."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from mediagate_cli import options as o
from mediagate_cli.media_command import SaveOptions, run_media_command
from mediagate_cli.option_groups import expand_option_groups
from mediagate_cli.save_files import SaveTarget, format_from_path

if TYPE_CHECKING:
    from mediagate.v1.generation_pb2 import Generation
    from mediagate_client import AsyncClient

_FORMATS: Final = ("wav", "mp3", "flac", "ogg")


@expand_option_groups
def audio(
    server: o.ServerOptions,
    run: o.RunOptions,
    target: SaveTarget,
    prompt: o.Prompt = "",
    text: Annotated[str | None, typer.Option(help="What to say, for speech.")] = None,
    kind: Annotated[str | None, typer.Option(help="music, sound_effect or speech.")] = None,
    lyrics: Annotated[str | None, typer.Option(help="What to sing.")] = None,
    voice: Annotated[str | None, typer.Option(help="A name that the model knows.")] = None,
    language: Annotated[str | None, typer.Option(help="The language spoken.")] = None,
    speed: Annotated[float | None, typer.Option(help="How fast to speak, 0.25 to 4.")] = None,
    duration: Annotated[float | None, typer.Option("--duration", "-d", help="Seconds.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Randomness, 0 to 2.")] = None,
    continue_from: Annotated[str | None, typer.Option(help=f"{o.MEDIUM} to go on from.")] = None,
    reference: Annotated[str | None, typer.Option(help=f"{o.MEDIUM} to resemble.")] = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", help="wav, mp3, flac or ogg; else as the file is named."),
    ] = None,
    seed: o.Seed = None,
    as_json: o.Json = False,
) -> None:
    """Make a sound and save it. Ctrl-C cancels."""
    target.check()
    prompt_text = o.read_prompt(prompt)
    fields = o.decode_fields(
        run.fields()
        | {
            "text": text,
            "kind": kind,
            "lyrics": lyrics,
            "voice": voice,
            "language": language,
            "speed": speed,
            "duration": duration,
            "temperature": temperature,
            "seed": seed,
            "continue_from": continue_from,
            "reference_audio": reference,
            "output_format": format_ or format_from_path(target.output, _FORMATS),
            "wait": 0,
        }
    )

    async def submit(client: "AsyncClient") -> "Generation":
        from mediagate.v1.audio_pb2 import GenerateAudioRequest
        from mediagate_client import billable_request

        return await client.generate_audio(
            billable_request(GenerateAudioRequest, prompt_text, fields)
        )

    run_media_command(server, submit, SaveOptions(target, prompt_text or text or "audio", as_json))
