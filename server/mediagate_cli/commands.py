"""All commands by name."""

import typer

from mediagate_cli import audio, catalog, demo, image, serving, text, video

app = typer.Typer(
    name="mediagate",
    help="One typed, metered gate to every Replicate model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(text.text)
app.command()(image.image)
app.command()(video.video)
app.command()(audio.audio)
app.command()(catalog.models)
app.command()(catalog.show)
app.command()(demo.demo)
app.command()(serving.serve)
app.command()(serving.sandbox)
app.add_typer(serving.configuration, name="config")
