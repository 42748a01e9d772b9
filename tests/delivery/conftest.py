from pathlib import Path

import pytest

from delivery.branch import Branch
from tests.support.repositories import Origin, new_origin


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return new_origin(tmp_path)


@pytest.fixture
def branch(origin: Origin) -> Branch:
    return origin.clone()
