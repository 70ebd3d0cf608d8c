"""Calls what LiteLLM's provider and LangChain's wrapper have for Replicate; says how each went.

Run in an environment of its own, with REPLICATE_BASE_URL, REPLICATE_API_TOKEN and SSL_CERT_FILE
set. LiteLLM takes no other address than Replicate's, so the function that makes it is replaced.
"""

import asyncio
import json
import os
from collections.abc import Callable
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # LiteLLM counts tokens by a file that it would fetch.

import litellm
from langchain_community.llms import Replicate
from litellm.llms.replicate.chat.handler import replicate_config

URL = os.environ["REPLICATE_BASE_URL"]
LLAMA = "meta/meta-llama-3-70b-instruct"
VERSION = "meta/llama-2-70b-chat:02e509c789964a7ea8736978a43525956ef40397be9033abf9fd2badfe68c9e3"
CANARY = "replicate/canary:30e22229542eb3f79d4f945dacb58d32001b02cc313ae6f54eef27904edf3272"
MESSAGES = [{"role": "user", "content": "Hello"}]

litellm.suppress_debug_info = True  # Printed beside our lines otherwise.
complete_url = replicate_config.get_complete_url


def sandbox_url(*arguments: Any, **named: Any) -> str:
    return complete_url(*arguments, **named).replace("https://api.replicate.com", URL)


replicate_config.get_complete_url = sandbox_url


def complete(model: str = LLAMA, **options: Any) -> Any:
    options = {"messages": MESSAGES, "api_key": "r8_any", **options}
    return litellm.completion(model=f"replicate/{model}", **options)


def is_written(text: str) -> bool:
    return text.startswith("[sandbox ")


def joined(chunks: Any) -> str:
    return "".join(each.choices[0].delta.content or "" for each in chunks)


async def complete_later() -> bool:
    answer = await litellm.acompletion(
        model=f"replicate/{LLAMA}", messages=MESSAGES, api_key="r8_any"
    )
    return is_written(answer.choices[0].message.content)


async def stream_later(messages: list[dict[str, str]]) -> bool:
    chunks = await litellm.acompletion(
        model=f"replicate/{LLAMA}", messages=messages, api_key="r8_any", stream=True
    )
    return is_written(joined([each async for each in chunks]))


def fails(call: Callable[[], Any], word: str) -> bool:
    try:
        call()
    except Exception as failure:  # noqa: BLE001 - of a kind that each wrapper has for itself
        return word in str(failure)
    return False


FAILING = [{"role": "user", "content": "x [[fail=E1001: out of memory]]"}]
CASES: dict[str, Callable[[], Any]] = {
    "litellm completion": lambda: is_written(complete().choices[0].message.content),
    "litellm usage": lambda: complete(max_tokens=20).usage.completion_tokens > 0,
    "litellm stream": lambda: is_written(joined(complete(stream=True))),
    "litellm deployment": lambda: is_written(
        complete("deployments/sandbox/text").choices[0].message.content
    ),
    "litellm acompletion": lambda: asyncio.run(complete_later()),
    "litellm acompletion stream": lambda: asyncio.run(stream_later(MESSAGES)),
    "litellm failure": lambda: fails(lambda: asyncio.run(stream_later(FAILING)), "out of memory"),
    "langchain invoke": lambda: is_written(Replicate(model=LLAMA).invoke("Hello")),
    "langchain version": lambda: is_written(Replicate(model=CANARY).invoke("Hello")),
    "langchain stream": lambda: is_written("".join(Replicate(model=VERSION).stream("Hello"))),
    "langchain stop": lambda: "You" not in Replicate(model=LLAMA, stop=["You"]).invoke("Hello"),
    "langchain failure": lambda: fails(
        lambda: Replicate(model=LLAMA).invoke("x [[fail=E1001: out of memory]]"), "out of memory"
    ),
}

for method, call in CASES.items():
    try:
        error = None if call() else "another answer"
    except Exception as failure:  # noqa: BLE001 - said, and judged by the test
        error = f"{type(failure).__name__}: {failure}"
    print(json.dumps({"method": method, "error": error}))
