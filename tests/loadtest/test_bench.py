from pathlib import Path

from loadtest.bench.systems import naive_command


def test_the_naive_app_is_where_its_command_looks() -> None:
    *_, file, port = naive_command(5001)
    assert Path(file).read_text().startswith('"""')
    assert port == "5001"
