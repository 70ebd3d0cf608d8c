"""Video generator: the camera moves down a landscape with the prompt as caption.

The landscape is drawn once, taller than the frame. A frame is then one slice of it per plane, so
that encoding, and not drawing, is what a film costs.
"""

from __future__ import annotations

import io
from fractions import Fraction

import av
from av.video.plane import VideoPlane

from mediagate_sandbox.generators.audio import tone
from mediagate_sandbox.generators.landscape import draw_landscape, write
from mediagate_sandbox.generators.spec import VideoRecipe

_SOUND_RATE = 44_100


def render_video(recipe: VideoRecipe) -> bytes:
    """Encode an MP4 (H.264, AAC if there is sound) of the requested size and duration."""
    scenery = _render_background(recipe)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=recipe.fps)
        video.width, video.height, video.pix_fmt = recipe.width, recipe.height, "yuv420p"
        video.options = {"preset": "ultrafast", "crf": "26"}
        video.codec_context.thread_count = 1
        if recipe.sound:
            sound = container.add_stream("aac", rate=_SOUND_RATE)
            sound.layout = "stereo"
            samples = recipe.frames * _SOUND_RATE // recipe.fps
            for samples_frame in tone(recipe.seed, samples, _SOUND_RATE, 2):
                container.mux(sound.encode(samples_frame))
            container.mux(sound.encode(None))
        for number in range(recipe.frames):
            container.mux(video.encode(_frame(recipe, scenery, number)))
        container.mux(video.encode(None))
    return buffer.getvalue()


def _render_background(recipe: VideoRecipe) -> tuple[VideoPlane, ...]:
    """Draw the landscape, half as tall again as a frame; the prompt is in every frame of it."""
    image = draw_landscape(recipe.width, recipe.height + _scroll_rows(recipe), recipe.seed)
    note = (
        f"sandbox  {recipe.slug}  {recipe.width} x {recipe.height}  {recipe.fps} fps  "
        f"{recipe.seconds:g} s  seed {recipe.seed}"
    )
    write(image, recipe.height, note, recipe.prompt)
    frame: av.VideoFrame = av.VideoFrame.from_image(image)  # type: ignore[no-untyped-call]
    return frame.reformat(format="yuv420p").planes


def _scroll_rows(recipe: VideoRecipe) -> int:
    """Rows that the camera moves: an even number, as two rows share one chroma row."""
    return recipe.height // 4 * 2


def _frame(recipe: VideoRecipe, scenery: tuple[VideoPlane, ...], number: int) -> av.VideoFrame:
    frame = av.VideoFrame(recipe.width, recipe.height, "yuv420p")
    frame.pts = number
    frame.time_base = Fraction(1, recipe.fps)
    shift = number * _scroll_rows(recipe) // recipe.frames // 2 * 2
    for source, target in zip(scenery, frame.planes, strict=True):
        first = shift * target.height // recipe.height * source.line_size
        target.update(bytes(memoryview(source)[first : first + target.buffer_size]))
    return frame
