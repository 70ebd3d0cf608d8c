"""Finished media, made when first read and kept in memory up to a limit.

Files are made one at a time in a worker thread, which bounds both CPU and memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict

from mediagate_sandbox.generators.spec import (
    AudioRecipe,
    ImageRecipe,
    Recipe,
    VideoRecipe,
    file_format,
    shrink_to_tiny,
)
from mediagate_sandbox.store import Store

log = logging.getLogger("mediagate.sandbox")


def find_recipe(store: Store, key: str, name: str) -> Recipe | None:
    """What the output file at `/files/{key}/{name}` is to be like, while there is one."""
    prediction = store.by_file(key)
    if prediction is None or not prediction.complete:
        return None
    for index, recipe in enumerate(prediction.order.plan.files):
        if name == f"out-{index}.{file_format(recipe)}":
            return recipe
    return None


def make(recipe: Recipe) -> bytes:
    """Return the bytes of the file. Takes up to seconds of CPU: call it off the event loop.

    Pillow and PyAV are imported with the first file, so that a sandbox starts at once.
    """
    match recipe:
        case ImageRecipe():
            from mediagate_sandbox.generators.image import render_image  # noqa: PLC0415

            return render_image(recipe)
        case AudioRecipe():
            from mediagate_sandbox.generators.audio import render_audio  # noqa: PLC0415

            return render_audio(recipe)
        case VideoRecipe():
            from mediagate_sandbox.generators.video import render_video  # noqa: PLC0415

            return render_video(recipe)


class OutputFiles:
    """Bytes by recipe."""

    def __init__(self, most_bytes: int, *, small: bool = False) -> None:
        """Keep at most `most_bytes` of files, the last read ones; `small` makes them tiny."""
        self._most_bytes = most_bytes
        self._small = small
        self._kept: OrderedDict[Recipe, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._making = asyncio.Lock()

    async def read(self, recipe: Recipe) -> bytes:
        """The file's bytes, made now if need be; the same recipe always gives the same."""
        if self._small:
            recipe = shrink_to_tiny(recipe)
        found = self._find(recipe)
        if found is not None:
            return found
        async with self._making:
            found = self._find(recipe)
            if found is None:
                found = await asyncio.to_thread(make, recipe)
                log.info("made a file: %s, %d bytes", file_format(recipe), len(found))
                self._keep(recipe, found)
        return found

    def _find(self, recipe: Recipe) -> bytes | None:
        found = self._kept.get(recipe)
        if found is not None:
            self._kept.move_to_end(recipe)
        return found

    def _keep(self, recipe: Recipe, content: bytes) -> None:
        self._kept[recipe] = content
        self._kept_bytes += len(content)
        while self._kept_bytes > self._most_bytes and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= len(dropped)
