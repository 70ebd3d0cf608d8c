"""Output files: generated at the first read, in an LRU cache in memory.

Files are made one at a time in a worker thread, which bounds both CPU and memory.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections import OrderedDict
from dataclasses import dataclass

from mediagate_sandbox.generators.spec import (
    CONTENT_TYPES,
    AudioRecipe,
    ImageRecipe,
    Recipe,
    VideoRecipe,
    file_format,
    shrink_to_tiny,
)
from mediagate_sandbox.predictions import Prediction

log = logging.getLogger("mediagate.sandbox")


@dataclass(frozen=True, slots=True)
class OutputFile:
    """Bytes of a file and their MD5, which is its ETag as in Google's storage."""

    content: bytes
    etag: str

    def data_uri(self, recipe: Recipe) -> str:
        """Return the file, made by this recipe, as a data URI."""
        text = base64.b64encode(self.content).decode()
        return f"data:{CONTENT_TYPES[file_format(recipe)]};base64,{text}"


def find_recipe(prediction: Prediction | None, name: str) -> Recipe | None:
    """Find the recipe of a prediction's output file by its name, while it exists."""
    if prediction is None or not prediction.complete:
        return None
    for index, recipe in enumerate(prediction.request.script.files):
        if name == f"out-{index}.{file_format(recipe)}":
            return recipe
    return None


def render_file(recipe: Recipe) -> bytes:
    """Generate a file. Takes up to seconds of CPU: call it off the event loop.

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
    """Cache of files by recipe."""

    def __init__(self, most_bytes: int, *, small: bool = False) -> None:
        """Cache at most `most_bytes`, least recently used first out; `small` makes files tiny."""
        self._most_bytes = most_bytes
        self._small = small
        self._cache: OrderedDict[Recipe, OutputFile] = OrderedDict()
        self._cached_bytes = 0
        self._lock = asyncio.Lock()

    async def read(self, recipe: Recipe) -> OutputFile:
        """Return the file, generated if not cached; a recipe always gives the same bytes."""
        if self._small:
            recipe = shrink_to_tiny(recipe)
        file = self._find(recipe)
        if file is not None:
            return file
        async with self._lock:
            file = self._find(recipe)
            if file is None:
                file = await asyncio.to_thread(_render, recipe)
                log.info("made a file: %s, %d bytes", file_format(recipe), len(file.content))
                self._store(recipe, file)
        return file

    def _find(self, recipe: Recipe) -> OutputFile | None:
        file = self._cache.get(recipe)
        if file is not None:
            self._cache.move_to_end(recipe)
        return file

    def _store(self, recipe: Recipe, file: OutputFile) -> None:
        self._cache[recipe] = file
        self._cached_bytes += len(file.content)
        while self._cached_bytes > self._most_bytes and len(self._cache) > 1:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= len(dropped.content)


def _render(recipe: Recipe) -> OutputFile:
    content = render_file(recipe)
    return OutputFile(content, hashlib.md5(content, usedforsecurity=False).hexdigest())
