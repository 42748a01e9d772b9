"""The command lines of all programs: how options are read, and how a program ends.

Exit code 2 says that nothing was done: one sentence on standard error names what is wrong, and what is allowed. 130 is
Ctrl-C. The other codes are each program's own.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import NoReturn, TypeVar

from config import ConfigError, Stage, find_stage
from context import CDK_JSON

INTERRUPTED = 130
T = TypeVar("T")
Reader = Callable[[str], T]


class InputError(ValueError):
    """What was asked for can't be done; the message is one sentence that names the option and what is allowed."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        """End with the sentence."""
        print(f"sluice: {message.removeprefix('argument ')}", file=sys.stderr)
        sys.exit(2)


def run(parser: Parser, arguments: Sequence[str], *problems: type[Exception], interrupted: str = "interrupted") -> int:
    """Run what the parser names as `run` with the options, and return its exit code.

    The options have `arguments` too, as they were given. problems: what may go wrong, beyond bad input; each message is
    one sentence. interrupted: what to say after Ctrl-C.
    """
    options = parser.parse_args(arguments)
    options.arguments = list(arguments)
    expected: tuple[type[Exception], ...] = (InputError, ConfigError, *problems)
    try:
        code: int = options.run(options)
    except expected as problem:
        print(f"sluice: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"sluice: {interrupted}", file=sys.stderr)
        return INTERRUPTED
    return code


def add_commands(parser: Parser, modules: str, commands: Mapping[str, str], arguments: Sequence[str]) -> None:
    """Add commands, given as name → help, each a module with `add_options(parser)` and `run(options)`.

    modules: how a module is called, with `{}` in place of its command. Only the one that is asked for is imported, for
    some take seconds.
    """
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, help_ in commands.items():
        command = subparsers.add_parser(name, help=help_, description=help_)
        if arguments[:1] == [name]:
            module = import_module(modules.format(name.replace("-", "_")))
            module.add_options(command)
            command.set_defaults(run=module.run)


def number(low: float = 0, high: float = math.inf, *, above: bool = False, of: str = "") -> Reader[float]:
    """Return the reader of a number from `low` to `high`, or above `low`. of: what it counts, with its unit."""
    named = f"a number of {of}" if of else "a number"

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and low <= value <= high) or (above and value == low):
            raise argparse.ArgumentTypeError(f"{text!r} is not {named}{_range(low, high, above=above)}")
        return value

    return read


def whole(low: int = 0, high: float = math.inf) -> Reader[int]:
    """Return the reader of a whole number from `low` to `high`."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number{_range(low, high)}")
        return int(text)

    return read


def one_of(words: Sequence[str]) -> Reader[str]:
    """Return the reader of one of the words."""

    def read(text: str) -> str:
        if text not in words:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(words)}")
        return text

    return read


def form(pattern: str, allowed: str) -> Reader[str]:
    """Return the reader of a text that matches the whole pattern. allowed: how an error describes it."""

    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text!r} is not {allowed}")
        return text

    return read


read_digest = form(r"sha256:[0-9a-f]{64}", "a digest: sha256: and 64 hex digits, never a tag")


def listed(read: Reader[T]) -> Reader[list[T]]:
    """Return the reader of a list with commas, each item read by `read`."""
    return lambda text: [read(item.strip()) for item in text.split(",")]


def read_stage(text: str) -> Stage:
    """Read the name of a stage."""
    try:
        return find_stage(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_region(parser: argparse.ArgumentParser) -> None:
    """Add the region whose prices count."""
    parser.add_argument("--region", default="", help="AWS region whose prices count; default: the one in cdk.json")


def region(asked: str, *, required: bool = True) -> str:
    """Return the region that was asked for, else cdk.json's. Raises InputError where none is, and one is required."""
    found = asked or str(json.loads(CDK_JSON.read_text())["context"].get("region", ""))
    if required and not found:
        raise InputError("region is missing: set it in cdk.json or with --region")
    return found


def _range(low: float, high: float, *, above: bool = False) -> str:
    if above:
        return f" above {low:.15g}" + (f", {high:.15g} at most" if high < math.inf else "")
    return f" from {low:.15g} to {high:.15g}" if high < math.inf else f", {low:.15g} or more"
