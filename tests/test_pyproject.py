"""What pyproject.toml says of the code."""

import re
import tomllib

from testbed import ROOT

MYPY = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
IMPORT = re.compile(r"^(?:from aws_cdk import (\w+)(?: as \w+)?|from (aws_cdk\.\w+) import .*)$", re.MULTILINE)


def test_each_module_of_the_cdk_in_use_is_type_checked() -> None:
    files = [path for folder in ("stacks", "tests", "testbed") for path in (ROOT / folder).rglob("*.py")]
    imports = [found for path in files if ".venv" not in path.parts for found in IMPORT.findall(path.read_text())]
    used = {module or f"aws_cdk.{name}" for name, module in imports if module or name.islower()}
    [read] = [each["module"] for each in MYPY["overrides"] if each.get("follow_imports") == "normal"]
    assert used == set(read) - {"aws_cdk"}
