"""Generator of the sandbox's pictures: a seeded landscape with the prompt written into it."""

from __future__ import annotations

import io

from mediagate_sandbox.generators.landscape import draw_landscape, write
from mediagate_sandbox.generators.spec import ImageRecipe


def render_image(recipe: ImageRecipe) -> bytes:
    """Draw and encode an image of exactly the requested size."""
    image = draw_landscape(recipe.width, recipe.height, recipe.seed)
    note = f"sandbox  {recipe.slug}  {recipe.width} x {recipe.height}  seed {recipe.seed}"
    write(image, recipe.height, note, recipe.prompt)
    buffer = io.BytesIO()
    match recipe.format:
        case "png":
            image.save(buffer, "PNG", compress_level=3)
        case "jpg":
            image.save(buffer, "JPEG", quality=max(1, recipe.quality))
        case "webp":
            image.save(buffer, "WEBP", quality=recipe.quality, method=2)
    return buffer.getvalue()
