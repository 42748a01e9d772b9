"""What the client programs in Python share: what they ask, and how a test has them ask it.

A program has a class for each API that its client speaks, and in it a method for each feature that the client has.
"""

import json
import os
import sys
import traceback
from typing import Any

MODEL = os.environ["MODEL"]
QUESTION = "What is the capital of France?"
WARMTH = "How warm is it in Paris?"
CITY_PARAMETER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="


def weather(city: str) -> str:
    """Say how warm it is in a city."""
    return f"21 degrees in {city}"


def call(name: str, arguments: Any, id_: str | None = None) -> dict[str, Any]:
    """Return a call of a tool, as the tests want it."""
    return {"name": name, "arguments": arguments, "id": id_}


def serve(*clients: type[Any]) -> None:
    """Say which features there are; then run each that a line of the input names, and write what it gave as a line.

    The only argument is the gateway's address, MODEL names the model. What libraries print goes to stderr.
    """
    out, sys.stdout = sys.stdout, sys.stderr
    named = {client.__name__: client for client in clients}
    has = {name: [each for each in dir(client) if each[0] != "_"] for name, client in named.items()}
    print(json.dumps(has), file=out, flush=True)
    for line in sys.stdin:
        name, _, feature = line.strip().partition(".")
        try:
            got = getattr(named[name](sys.argv[1]), feature)()
        except Exception:  # noqa: BLE001 - the test fails with it
            got = {"failed": traceback.format_exc()}
        print(json.dumps(got), file=out, flush=True)


def pieces_until_it_broke(pieces: Any) -> dict[str, Any]:
    """Return the pieces of a stream that came, and the client's own error that ended it."""
    came: list[str] = []
    try:
        for piece in pieces:
            came.append(piece)
    except Exception as error:  # noqa: BLE001 - each client has its own
        return {"pieces": came, "error": f"{type(error).__name__}: {error}"}
    return {"pieces": came, "error": None}
