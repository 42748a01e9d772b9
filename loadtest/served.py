"""Which model a gateway serves, for whoever doesn't say which one must answer."""

import json
import ssl
import urllib.error
import urllib.request

from loadtest.address import Address
from loadtest.k6 import CannotRun


def served_model(target: Address) -> str:
    """Return the model's name as the gateway at `target` lists it. Raises CannotRun."""
    url = f"{target.url}/v1/models"
    request = urllib.request.Request(url, headers=target.headers())  # noqa: S310  http and https only
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310
            return str(json.load(reply)["data"][0]["id"])
    except urllib.error.HTTPError as error:
        with error:
            raise CannotRun(f"{url}: status {error.code}") from None
    except OSError as error:
        raise CannotRun(f"{url} can't be asked which model is served: {_why(error)}") from None
    except (ValueError, LookupError, TypeError):
        raise CannotRun(f"{url} doesn't say which model is served: name it with --model") from None


def _why(error: OSError) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate isn't trusted ({reason.verify_message}); name the file of its CA in SSL_CERT_FILE"
    return str(reason)
