"""A client that can be killed: reads one text into a file, on from where the file ends.

    python -m tests.faults.text_reader_process ADDRESS KEY REQUEST_ID PROMPT FILE

What it knows is in the file alone. It ends with 0 once the text is complete.
"""

import os
import sys
from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration

from mediagate.v1.text_pb2_grpc import TextServiceStub
from tests.builders import stream_text_request

GRACE = 30


def read(address: str, key: str, request_id: str, prompt: str, file: Path) -> bool:
    """Read to the end; True where it came with its completion."""
    completed = False
    signed = (("authorization", f"Bearer {key}"),)
    with grpc.insecure_channel(address) as channel, file.open("ab", buffering=0) as written:
        request = stream_text_request(
            prompt=prompt,
            request_id=request_id,
            after_sequence=os.fstat(written.fileno()).st_size,
            disconnect_grace=Duration(seconds=GRACE),
        )
        stream = TextServiceStub(channel).StreamText
        for event in stream(request, metadata=signed, wait_for_ready=True):
            written.write(event.delta.text.encode())
            completed = event.HasField("completed")
    return completed


if __name__ == "__main__":
    _, where, secret, name, words, path = sys.argv
    sys.exit(not read(where, secret, name, words, Path(path)))
