"""Command `video`: a video as a file."""

from typing import TYPE_CHECKING, Annotated

import typer

from mediagate_cli import options as o
from mediagate_cli.media_command import SaveOptions, run_media_command
from mediagate_cli.option_groups import expand_option_groups
from mediagate_cli.save_files import SaveTarget

if TYPE_CHECKING:
    from mediagate.v1.generation_pb2 import Generation
    from mediagate_client import AsyncClient


@expand_option_groups
def video(
    server: o.ServerOptions,
    run: o.RunOptions,
    target: SaveTarget,
    prompt: o.Prompt = "",
    first_frame: Annotated[str | None, typer.Option(help=f"{o.MEDIUM} of an image.")] = None,
    last_frame: Annotated[str | None, typer.Option(help=f"{o.MEDIUM} of an image.")] = None,
    reference: o.Reference = None,
    source_video: Annotated[
        str | None, typer.Option(help=f"{o.MEDIUM} of a video to change.")
    ] = None,
    source_audio: Annotated[str | None, typer.Option(help=f"{o.MEDIUM} of a sound.")] = None,
    duration: Annotated[float | None, typer.Option("--duration", "-d", help="Seconds.")] = None,
    fps: Annotated[int | None, typer.Option(help="Frames a second.")] = None,
    size: o.Size = None,
    aspect_ratio: o.AspectRatio = None,
    resolution: Annotated[str | None, typer.Option(help="For example 720p.")] = None,
    negative: o.Negative = None,
    motion: Annotated[float | None, typer.Option(help="How much should move, 0 to 1.")] = None,
    audio: Annotated[bool | None, typer.Option(help="Whether it has sound.")] = None,
    seed: o.Seed = None,
    as_json: o.Json = False,
) -> None:
    """Make a video and save it. It takes minutes; Ctrl-C cancels."""
    target.check()
    prompt_text = o.read_prompt(prompt)
    fields = o.decode_fields(
        run.fields()
        | {
            "first_frame": first_frame,
            "last_frame": last_frame,
            "reference_images": reference,
            "source_video": source_video,
            "source_audio": source_audio,
            "duration": duration,
            "fps": fps,
            "size": size,
            "aspect_ratio": aspect_ratio,
            "resolution": resolution,
            "negative_prompt": negative,
            "motion_strength": motion,
            "generate_audio": audio,
            "seed": seed,
            "wait": 0,
        }
    )

    async def submit(client: "AsyncClient") -> "Generation":
        from mediagate.v1.video_pb2 import GenerateVideoRequest
        from mediagate_client import billable_request

        return await client.generate_video(
            billable_request(GenerateVideoRequest, prompt_text, fields)
        )

    run_media_command(server, submit, SaveOptions(target, prompt_text or "video", as_json))
