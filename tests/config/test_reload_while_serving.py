"""Reload: a running server reads changed files, keeps the last valid ones and logs the error."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from mediagate.v1 import models_pb2, models_pb2_grpc
from tests.server_process import running_server

OURS = """
[[model]]
slug = "acme/ours"
like = "black-forest-labs/flux-dev"
aliases = ["ours"]
kind = "deployment"
inputs_from = "partly"
price = { as_of = "2026-11", source = "our contract", per_image = "PRICE" }
"""
SECONDS = 30


async def wait_for_models(models: Any, is_so: Callable[[str], bool]) -> None:
    """Waits until the price of our model is shown as it should be."""
    async with asyncio.timeout(SECONDS):
        while True:
            answer = await models.GetModel(models_pb2.GetModelRequest(model="ours"))
            if is_so(answer.model.price.tiers[0].rates[0].usd):
                return


async def said(output: Path, words: str) -> None:
    """Waits until the server has written these words."""
    async with asyncio.timeout(SECONDS):
        while words not in await asyncio.to_thread(output.read_text):
            await asyncio.to_thread(output.stat)


@pytest.mark.needs_gate
async def test_prices_are_reloaded_while_serving(tmp_path: Path) -> None:
    """No signal and no restart: a changed file is taken, a broken one is told of and is not."""
    models_file, config = tmp_path / "models.toml", tmp_path / "gate.toml"
    models_file.write_text(OURS.replace("PRICE", "0.01"))
    config.write_text('[catalog]\nfiles = ["models.toml"]\n')
    with running_server(tmp_path, MEDIAGATE_CONFIG=str(config)) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            models = models_pb2_grpc.ModelServiceStub(channel)
            await wait_for_models(models, lambda usd: usd == "0.01")
            models_file.write_text(OURS.replace("PRICE", "0.02"))
            await wait_for_models(models, lambda usd: usd == "0.02")
            models_file.write_text(OURS.replace('"PRICE"', "0.03"))
            await said(server.output, "write it as a string")
            await wait_for_models(models, lambda usd: usd == "0.02")
            models_file.write_text(OURS.replace("PRICE", "0.04"))
            await wait_for_models(models, lambda usd: usd == "0.04")
