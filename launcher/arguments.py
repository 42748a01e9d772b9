"""The parser of the command lines that a person types."""

import argparse
import sys
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        """End with the sentence."""
        print(f"sluice: {message}", file=sys.stderr)
        sys.exit(2)
