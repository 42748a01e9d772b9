"""How options are read, and how programs end."""

import re
from importlib import import_module
from inspect import signature
from typing import Any

import pytest

from command_line import InputError, Parser, Reader, form, listed, number, one_of, read_stage, run, whole
from testbed import ROOT

# Every program that a person or a workflow calls, with a command of each.
PROGRAMS = [
    ["loadtest.bench"],
    ["cdk8s_manifests"],
    ["chaos", "hold"],
    ["cost"],
    ["cost.bill"],
    ["delivery", "publish"],
    ["delivery.access"],
    ["delivery.doctor"],
    ["delivery.github"],
    ["local_cluster.demo"],
    ["loadtest.experiments", "comparison"],
    ["loadtest", "run"],
    ["loadtest.judging"],
    ["loadtest.models"],
    ["planning", "plan"],
    ["planning", "validate"],
    ["tuning"],
]


def parser(read: Reader[Any], given: list[Any]) -> Parser:
    """Return a parser of one option, which notes what it was given."""

    def act(options: Any) -> int:
        given.append(options.option)
        return 0

    made = Parser(prog="python -m it")
    made.add_argument("--option", type=read, required=True)
    made.set_defaults(run=act)
    return made


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (number(), "1.5", 1.5),
        (number(0.001, 10), "10", 10),
        (whole(1, 5), "5", 5),
        (one_of(["a", "b"]), "b", "b"),
        (form("x+", "some x"), "xxx", "xxx"),
        (listed(whole()), "1, 2,3", [1, 2, 3]),
    ],
)
def test_an_option_is_read(read: Reader[Any], text: str, value: Any) -> None:
    given: list[Any] = []
    assert run(parser(read, given), ["--option", text]) == 0
    assert given == [value]


@pytest.mark.parametrize(
    ("read", "text", "wrong"),
    [
        (number(), "fast", "'fast' is not a number, 0 or more"),
        (number(of="seconds"), "nan", "'nan' is not a number of seconds, 0 or more"),
        (number(of="seconds"), "inf", "'inf' is not a number of seconds, 0 or more"),
        (number(above=True), "0", "'0' is not a number above 0"),
        (number(above=True, high=9), "10", "'10' is not a number above 0, 9 at most"),
        (number(0.001, 10_000), "1e5", "'1e5' is not a number from 0.001 to 10000"),
        (whole(), "1.5", "'1.5' is not a whole number, 0 or more"),
        (whole(1, 1_048_576), "0", "'0' is not a whole number from 1 to 1048576"),
        (whole(), "²", "'²' is not a whole number, 0 or more"),
        (one_of(["a", "b"]), "c", "'c' is none of a, b"),
        (form("x+", "some x"), "xy", "'xy' is not some x"),
        (listed(whole()), "1,,3", "'' is not a whole number, 0 or more"),
        (read_stage, "moon", "stage 'moon' doesn't exist: local, dev, prod do"),
    ],
)
def test_an_error_names_the_option_and_what_is_allowed(
    read: Reader[Any], text: str, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(parser(read, []), ["--option", text])
    assert capsys.readouterr().err == f"sluice: --option: {wrong}\n"


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (InputError("a and b clash"), 2, "sluice: a and b clash\n"),
        (OSError("no such thing"), 2, "sluice: no such thing\n"),
        (KeyboardInterrupt(), 130, "sluice: interrupted, and that is that\n"),
    ],
)
def test_a_problem_is_one_sentence_and_an_exit_code(
    raised: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def act(_: Any) -> int:
        raise raised

    made = Parser(prog="python -m it")
    made.set_defaults(run=act)
    assert run(made, [], OSError, interrupted="interrupted, and that is that") == code
    assert capsys.readouterr().err == said


def test_what_nobody_expects_is_not_hidden() -> None:
    made = Parser(prog="python -m it")
    made.set_defaults(run=lambda _: {}["missing"])
    with pytest.raises(KeyError):
        run(made, [])


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("program", PROGRAMS, ids=" ".join)
def test_every_program_explains_itself_and_refuses_an_unknown_option_in_one_sentence(
    program: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    name, *command = program
    module = import_module(name)
    main = (import_module(f"{name}.__main__") if hasattr(module, "__path__") else module).main
    environ: list[Any] = [{}] if "environ" in signature(main).parameters else []
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"], *environ)
    assert capsys.readouterr().out.startswith(f"usage: python -m {' '.join(program)} [-h]")
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--no-such-option"], *environ)
    assert re.fullmatch("sluice: .*\n", capsys.readouterr().err)


def test_every_program_with_a_command_line_is_in_this_list() -> None:
    packages = [each.parent for each in ROOT.glob("*/__init__.py") if each.parent.name != "tests"]
    texts = {path: path.read_text() for package in packages for path in package.rglob("*.py")}
    runnable = [path for path, text in texts.items() if '__name__ == "__main__"' in text and "command_line" in text]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__") for path in runnable}
    assert names == {program[0] for program in PROGRAMS}
    assert [path for path, text in texts.items() if "ArgumentParser(" in text] == []
