"""Runs in an environment that holds the wheel without extras, and nothing of this checkout.

    python installed_client.py host:port

Imports every stub and the client, calls a server, and says what it got as JSON.
"""

import importlib
import importlib.util
import json
import pkgutil
import sys
from importlib.metadata import distributions

import mediagate.v1
from mediagate_client import Client, InvalidRequest


def main(address: str) -> dict[str, object]:
    stubs = [module.name for module in pkgutil.iter_modules(mediagate.v1.__path__)]
    for name in stubs:
        importlib.import_module(f"mediagate.v1.{name}")
    with Client(address) as client:
        pieces = list(client.stream_text("Tell me about the sea, at some length."))
        image = client.generate_image("A lighthouse at dusk")
        refusal = refused(client)
    return {
        "stubs": stubs,
        "installed": sorted(
            distribution.metadata["Name"].lower() for distribution in distributions()
        ),
        "loaded": sorted({name.partition(".")[0] for name in sys.modules}),
        "home": mediagate.v1.__path__[0],
        "pieces": pieces,
        "image_uri": image.images.images[0].uri,
        "image_cost": image.cost.usd_nanos,
        "refusal": refusal,
    }


def refused(client: Client) -> str:
    """The name of what an empty prompt raises."""
    try:
        client.generate_image("")
    except InvalidRequest as error:
        return type(error).__name__
    return "nothing"


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
