"""Which model a gateway serves, for whoever doesn't say which one must answer."""

import json
import os
import urllib.error
import urllib.request

from loadtest.k6 import CannotRun


def served_model(target: str) -> str:
    """Return the model's name as the gateway at `target` lists it. Raises CannotRun."""
    url = f"{target.rstrip('/')}/v1/models"
    key = os.environ.get("API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310  http and https only: Plan has checked it
        with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310
            return str(json.load(reply)["data"][0]["id"])
    except urllib.error.HTTPError as error:
        with error:
            raise CannotRun(f"{url}: status {error.code}") from None
    except (OSError, ValueError, LookupError) as problem:
        raise CannotRun(f"{url} doesn't say which model is served: {problem}; name it with --model") from None
