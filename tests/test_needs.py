"""What `make unit` leaves out: see tests/support/needs.py."""

import subprocess

import pytest


def test_a_unit_test_that_starts_a_program_fails() -> None:
    with pytest.raises(pytest.fail.Exception, match="a unit test starts true: it must take the fixture `programs`"):
        subprocess.run(["true"])
    assert subprocess.run(["git", "--version"], capture_output=True).returncode == 0


@pytest.mark.usefixtures("programs")
def test_a_test_that_says_so_may_start_programs() -> None:
    assert subprocess.run(["true"]).returncode == 0
