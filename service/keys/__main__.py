"""`python -m service.keys NAME` makes a key, and prints it, only this once, and its lines for the file."""

import re
import secrets
import sys

from service.keys import digest


def main() -> None:
    """Make a key for the client named on the command line."""
    if len(sys.argv) != 2 or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", sys.argv[1]):
        sys.exit("usage: python -m service.keys NAME   (letters, digits, _, and - but not first)")
    token = f"sluice-{secrets.token_urlsafe(32)}"
    sys.stderr.write(f"The key of {sys.argv[1]}, shown only now: {token}\nFor the file in API_KEYS_FILE:\n")
    sys.stdout.write(
        f'[{sys.argv[1]}]\nsha256 = "{digest(token)}"\nrequests_per_minute = 60\nconcurrent = 4\n'
        'priorities = ["interactive", "batch"]\n'
    )


if __name__ == "__main__":
    main()
