import pytest

from tests.e2e.cluster import need_cluster


@pytest.fixture(scope="session", autouse=True)
def cluster() -> None:
    need_cluster()
