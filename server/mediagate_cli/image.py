"""Command `image`: images as files."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from mediagate_cli import options as o
from mediagate_cli.media_command import SaveOptions, run_media_command
from mediagate_cli.option_groups import expand_option_groups
from mediagate_cli.save_files import SaveTarget, format_from_path

if TYPE_CHECKING:
    from mediagate.v1.generation_pb2 import Generation
    from mediagate_client import AsyncClient

_FORMATS: Final = ("png", "jpeg", "webp")


@expand_option_groups
def image(
    server: o.ServerOptions,
    run: o.RunOptions,
    target: SaveTarget,
    prompt: o.Prompt,
    size: o.Size = None,
    aspect_ratio: o.AspectRatio = None,
    megapixels: Annotated[float | None, typer.Option(help="Millions of pixels.")] = None,
    count: Annotated[int | None, typer.Option("--count", "-n", help="How many.")] = None,
    negative: o.Negative = None,
    seed: o.Seed = None,
    guidance: Annotated[float | None, typer.Option(help="How closely to follow.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    reference: o.Reference = None,
    strength: Annotated[float | None, typer.Option(help="How far to leave the reference.")] = None,
    mask: Annotated[str | None, typer.Option(help=f"{o.MEDIUM}: white is painted anew.")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="png, jpeg or webp; else as the file is named.")
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Make pictures and save them. Ctrl-C cancels."""
    target.check()
    prompt_text = o.read_prompt(prompt)
    fields = o.decode_fields(
        run.fields()
        | {
            "size": size,
            "aspect_ratio": aspect_ratio,
            "megapixels": megapixels,
            "count": count,
            "negative_prompt": negative,
            "seed": seed,
            "steps": steps,
            "guidance_scale": guidance,
            "reference_images": reference,
            "strength": strength,
            "mask": mask,
            "output_format": format_ or format_from_path(target.output, _FORMATS),
            "wait": 0,
        }
    )

    async def submit(client: "AsyncClient") -> "Generation":
        from mediagate.v1.image_pb2 import GenerateImageRequest
        from mediagate_client import billable_request

        return await client.generate_image(
            billable_request(GenerateImageRequest, prompt_text, fields)
        )

    run_media_command(server, submit, SaveOptions(target, prompt_text, as_json))
