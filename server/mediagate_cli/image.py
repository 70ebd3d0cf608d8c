"""`image`: pictures as files."""

from typing import TYPE_CHECKING, Annotated

import typer

from mediagate_cli import options as o
from mediagate_cli.media import make

if TYPE_CHECKING:
    from mediagate.v1.generation_pb2 import Generation
    from mediagate_client import Client


def image(
    prompt: o.Prompt,
    model: o.Model = None,
    quality: o.Quality = None,
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
    mask: Annotated[str | None, typer.Option(help="Path or URL: white is painted anew.")] = None,
    format_: Annotated[str | None, typer.Option("--format", help="png, jpeg or webp.")] = None,
    output: o.Output = None,
    as_json: o.Json = False,
    timeout: o.Timeout = None,
    max_cost: o.MaxCost = None,
    label: o.Label = None,
    strict: o.Strict = False,
    target: o.Target = o.DEFAULT_TARGET,
    api_key: o.ApiKey = "",
    tls: o.Tls = False,
) -> None:
    """Make pictures and save them. Ctrl-C cancels."""
    wanted = o.read_prompt(prompt)
    fields: dict[str, object] = {
        **o.run_options(model, quality, timeout, max_cost, label, strict=strict),
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
        "output_format": format_,
        "wait": 0,
    }

    def begin(client: "Client") -> "Generation":
        from mediagate.v1.image_pb2 import GenerateImageRequest
        from mediagate_client import paid_request

        return client.generate_image(paid_request(GenerateImageRequest, wanted, fields))

    make(
        begin,
        named=wanted,
        output=output,
        as_json=as_json,
        target=target,
        api_key=api_key,
        tls=tls,
    )
