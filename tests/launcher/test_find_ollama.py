"""Where Ollama comes from: PATH, the cache, a release, or a build."""

import re
from pathlib import Path

import pytest

from launcher import cache
from launcher.console import Problem
from launcher.cpu import cpu_name
from launcher.ollama_release import CHECKSUMS, Release
from service.ollama_version import OLDEST, VERSION
from tests.support.releases import UNREACHABLE, bare_machine, install, put_program, release, serve_release
from tests.support.stub import scripted


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return bare_machine(tmp_path)


def put_ollama(environ: dict[str, str], version: str) -> Path:
    """Put an Ollama on PATH that says its version as a real one does where no server answers."""
    words = "Warning: could not connect to a running Ollama instance\\nWarning: client version is"
    return put_program(environ["PATH"], "ollama", f"printf '{words} {version}\\n'")


@pytest.mark.usefixtures("programs")
def test_ollama_on_path_comes_first(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    program = put_ollama(environ, VERSION)
    assert install(environ, UNREACHABLE) == program
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("programs")
def test_one_on_path_that_does_not_say_its_version_is_used(environ: dict[str, str]) -> None:
    program = put_program(environ["PATH"], "ollama", "exit 1")
    assert install(environ, UNREACHABLE) == program


@pytest.mark.usefixtures("programs")
def test_one_on_path_that_is_newer_is_used(environ: dict[str, str]) -> None:
    program = put_ollama(environ, "9.0.1")
    assert install(environ, UNREACHABLE) == program


@pytest.mark.usefixtures("programs")
def test_one_on_path_that_is_too_old_is_passed_over_with_a_word(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    old = put_ollama(environ, "0.17.4")
    with serve_release(release()) as reachable:
        program = install(environ, reachable)
    assert program.is_relative_to(environ["SLUICE_CACHE"])
    expected = rf"{old}: Ollama 0\.17\.4 is older than supported: .*{OLDEST}.*; using {VERSION} instead"
    assert re.search(expected, capsys.readouterr().out)


def test_an_earlier_install_is_used(environ: dict[str, str]) -> None:
    with serve_release(release()) as reachable:
        first = install(environ, reachable)
    assert install(environ, UNREACHABLE) == first


def put_build(environ: dict[str, str], cpu: str) -> Path:
    return put_program(f"{environ['SLUICE_CACHE']}/ollama-{VERSION}-{cpu}/bin", "ollama")


def test_an_earlier_build_is_used(environ: dict[str, str]) -> None:
    built = put_build(environ, cpu_name())
    assert install(environ, UNREACHABLE) == built


def test_a_build_for_another_cpu_is_not_used(environ: dict[str, str]) -> None:
    other = put_build(environ, "x86_64-00000000")
    with pytest.raises(Problem, match="building Ollama needs"):
        install(environ, UNREACHABLE)
    assert other.exists()


def test_a_cache_that_cannot_be_written_is_one_line(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    environ["SLUICE_CACHE"] = str(tmp_path / "file" / "cache")
    with pytest.raises(Problem, match=r"can't be written.*SLUICE_CACHE"):
        install(environ, UNREACHABLE)


def test_an_unreachable_release_host_leads_to_a_build(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Problem, match=r"building Ollama needs go, gcc, g\+\+, git .*apt-get install golang-go"):
        install(environ, UNREACHABLE)
    assert "building version" in capsys.readouterr().out


def test_a_host_without_this_release_leads_to_a_build(environ: dict[str, str]) -> None:
    with scripted() as server, pytest.raises(Problem, match="building Ollama needs"):
        install(environ, Release(server.url, CHECKSUMS))


def test_the_cache_folder_follows_the_environment() -> None:
    assert cache.cache_dir({"HOME": "/home/x"}) == Path("/home/x/.cache/sluice")
    assert cache.cache_dir({"HOME": "/home/x", "XDG_CACHE_HOME": "/y"}) == Path("/y/sluice")
    assert cache.cache_dir({"HOME": "/home/x", "SLUICE_CACHE": "/z"}) == Path("/z")
