import pytest

from loadtest.k6 import CannotRun, find_k6
from testbed.tools import missing


@pytest.fixture(scope="session")
def k6(programs: None) -> str:
    try:
        return find_k6()
    except CannotRun as problem:
        missing(str(problem))
