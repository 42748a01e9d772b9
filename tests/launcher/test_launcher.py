"""`python -m launcher` as a user runs it: with the real Ollama, real signals and real faults."""

import json
import os
import signal
import socket
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import psutil
import pytest

from launcher.ollama_process import ollama_environ
from launcher.small_model import SMALL_MODEL
from service.ollama_version import version_note
from service.settings import Settings
from testbed.fetching import fetch
from testbed.waiting import eventually
from tests.support.launched import Launch, Launched
from tests.support.needs import RunOllama
from tests.support.stub import scripted

pytestmark = pytest.mark.usefixtures("programs")


def gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def test_it_answers_and_ctrl_c_leaves_nothing_running(launched: Launched) -> None:
    reply = launched.generate("What is the capital of Italy?")
    assert reply.status == 200
    assert reply.json()["model"] == SMALL_MODEL
    assert f"curl http://localhost:{launched.environ['PORT']}/generate" in launched.output
    family = launched.family()
    assert len(family) >= 4  # Ollama, its llama-server, gunicorn, its worker
    launched.process.send_signal(signal.SIGINT)
    assert launched.process.wait(20) == 0
    assert gone(family)


def test_sigterm_lets_a_running_stream_finish(launched: Launched) -> None:
    family = launched.family()
    with launched.story(max_tokens=40) as response:
        launched.process.terminate()
        lines = [json.loads(line) for line in response]
    assert lines[-1].get("done") is True, lines[-1]
    assert launched.process.wait(20) == 0
    assert gone(family)


def test_ctrl_c_ends_a_drain(launched: Launched) -> None:
    with launched.story() as response:
        launched.process.terminate()
        eventually(lambda: "draining" in launched.output)
        launched.process.send_signal(signal.SIGINT)
        assert launched.process.wait(20) == 0
        lines = [b""]
        with suppress(HTTPException, ConnectionError):
            lines.extend(response)
        assert b'"done":true' not in lines[-1].replace(b" ", b"")


def test_an_ollama_that_was_killed_is_started_again(launched: Launched) -> None:
    ollama, server, gateway = (launched.child(words) for words in ("ollama serve", "llama-server", "gunicorn"))
    assert ollama
    assert server
    ollama.kill()
    eventually(lambda: launched.child("ollama serve") not in (None, ollama), 20)
    eventually(lambda: launched.generate("What is the capital of Italy?").status == 200, 30)
    assert gone([server])
    assert launched.child("gunicorn") == gateway


def test_a_llama_server_that_was_killed_is_started_again(launched: Launched) -> None:
    ollama, server = launched.child("ollama serve"), launched.child("llama-server")
    assert server
    server.kill()
    eventually(lambda: gone([server]))
    assert launched.generate("What is the capital of Italy?").status == 200
    assert launched.child("ollama serve") == ollama


def test_a_llama_server_that_is_stuck_is_started_again(launch: Launch) -> None:
    service = launch(GENERATION_TIMEOUT="5")
    eventually(service.ready, 900)
    server = service.child("llama-server")
    assert server
    server.suspend()
    assert service.generate("What is the capital of Italy?").status == 504
    eventually(lambda: gone([server]), 60)
    eventually(lambda: service.generate("What is the capital of Italy?", max_tokens=1).status == 200, 120)


def test_an_ollama_at_its_memory_limit_ends_and_is_started_again(launch: Launch) -> None:
    service = launch(OLLAMA_MEMORY_MIB="4096")
    eventually(service.ready, 900)
    ollama, server = service.child("ollama serve"), service.child("llama-server")
    assert ollama
    assert server
    for process in (ollama, server):
        assert process.rlimit(psutil.RLIMIT_DATA) == (4 << 30, 4 << 30)
    ollama.rlimit(psutil.RLIMIT_DATA, (1 << 20, 4 << 30))
    with suppress(OSError):  # more than its heap has room for
        fetch(f"http://{service.environ['OLLAMA_HOST']}/api/show", {"model": "x" * (64 << 20)})
    eventually(lambda: gone([ollama]), 60)
    assert service.generate("What is the capital of Italy?").status == 200  # by the next one


def test_nothing_outlives_a_launcher_that_was_killed(launched: Launched) -> None:
    family = launched.family()
    launched.process.kill()
    eventually(lambda: gone(family), 20)


def test_a_gateway_that_was_killed_ends_everything_with_its_exit_code(launched: Launched) -> None:
    family = launched.family()
    gateway = launched.child("gunicorn")
    assert gateway
    gateway.kill()
    assert launched.process.wait(20) == 128 + signal.SIGKILL
    assert gone(family)


def test_an_ollama_that_answers_is_used_and_left_running(real_ollama: RunOllama, launch: Launch) -> None:
    with real_ollama() as ollama:
        service = launch(OLLAMA_HOST=ollama.url)
        eventually(lambda: service.ready(), 60)
        assert f"using the Ollama at {ollama.url}" in service.output
        assert service.generate("What is the capital of Italy?").status == 200
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(20) == 0
        assert ollama.process.poll() is None


def test_an_ollama_that_was_used_and_has_gone_is_replaced(real_ollama: RunOllama, launch: Launch) -> None:
    with real_ollama() as ollama:
        service = launch(OLLAMA_HOST=ollama.url)
        eventually(lambda: service.ready(), 60)
        ollama.process.kill()
        ollama.process.wait()
        eventually(lambda: "waiting for it" in service.output, 10)
        eventually(lambda: service.child("ollama serve"), 30)
        eventually(lambda: service.generate("What is the capital of Italy?").status == 200, 30)


def problem(service: Launched) -> str:
    """Return the one line with which a launcher ended."""
    assert service.process.wait(60) == 1
    assert "Traceback" not in service.output
    *_, last = service.output.splitlines()
    assert last.startswith("sluice: ")
    return last


@pytest.mark.parametrize("variable", ["PORT", "PRIVATE_PORT", "OLLAMA_HOST"])
def test_a_port_in_use_is_one_line_that_names_the_variable(launch: Launch, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        service = launch(**{variable: f"127.0.0.1:{port}" if variable == "OLLAMA_HOST" else str(port)})
        line = problem(service)
    assert f"port {port} is in use: change {variable}" in line
    assert "starting" not in service.output


def test_an_ollama_elsewhere_that_does_not_answer_is_one_line(launch: Launch) -> None:
    line = problem(launch(OLLAMA_HOST="http://ollama.invalid:11434"))
    assert "ollama.invalid" in line
    assert "OLLAMA_HOST" in line


def test_a_bad_setting_is_one_line(launch: Launch) -> None:
    assert "SLOTS='many' is not a whole number" in problem(launch(SLOTS="many"))


def test_a_missing_file_of_keys_is_one_line_before_anything_starts(launch: Launch, tmp_path: Path) -> None:
    service = launch(API_KEYS_FILE=str(tmp_path / "keys.toml"))
    assert f"API_KEYS_FILE={tmp_path}/keys.toml can't be read" in problem(service)
    assert "starting" not in service.output


def test_an_ollama_that_ends_at_its_start_is_one_line(launch: Launch, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "ollama"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'Error: no such luck'\nexit 1\n")
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    line = problem(launch(PATH=path, SLUICE_CACHE=str(tmp_path / "cache")))
    assert "Ollama ended at its start: Error: no such luck" in line


def test_a_model_that_does_not_load_is_one_line(launch: Launch) -> None:
    no_memory = (500, {"error": "llama-server process has terminated: exit status 1: insufficient memory"})
    shown = {"capabilities": ["completion"]}
    with scripted(api_version={"version": "0"}, api_show=shown, api_generate=no_memory) as ollama:
        line = problem(launch(OLLAMA_HOST=ollama.url))
    assert "Ollama can't load MODEL=gemma3-270m: it doesn't fit in memory" in line


def test_an_ollama_of_another_version_is_used_and_noted(launch: Launch) -> None:
    broken = (500, {"error": "stop here"})
    shown = {"capabilities": ["completion"]}
    with scripted(api_version={"version": "0.1.2"}, api_show=shown, api_generate=broken) as ollama:
        service = launch(OLLAMA_HOST=ollama.url)
        assert "stop here" in problem(service)
    assert version_note("0.1.2")
    assert f"NOTE: {version_note('0.1.2')}\n" in service.output


def test_ollama_gets_the_settings() -> None:
    settings = Settings(slots=8, threads=3, context_length=4096, prompt_cache_mib=64, ollama_host="127.0.0.1:1234")
    environ = ollama_environ(settings, {"HOME": "/root"})
    assert environ == {
        "HOME": "/root",
        "OLLAMA_HOST": "127.0.0.1:1234",
        "OLLAMA_NUM_PARALLEL": "8",
        "OLLAMA_CONTEXT_LENGTH": "4096",
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_MAX_LOADED_MODELS": "1",
        "OLLAMA_NOPRUNE": "1",
        "OLLAMA_NO_CLOUD": "1",
        "OLLAMA_FLASH_ATTENTION": "1",
        "LLAMA_ARG_THREADS": "3",
        "LLAMA_ARG_CACHE_RAM": "64",
        "LLAMA_ARG_SWA_FULL": "1",
        "GOMEMLIMIT": "256MiB",
        "GIN_MODE": "release",
    }


def test_ollama_is_opened_to_nobody_else_by_an_address_that_is_meant_for_its_clients() -> None:
    for given in ("0.0.0.0", "0.0.0.0:11434", "[::]:11434"):
        settings = Settings.from_environ({"OLLAMA_HOST": given})
        host = ollama_environ(settings, {"OLLAMA_HOST": given})["OLLAMA_HOST"]
        assert host in ("127.0.0.1:11434", "[::1]:11434")


def test_ollama_keeps_as_many_models_in_memory_as_are_served() -> None:
    assert ollama_environ(Settings(model="a b c"), {})["OLLAMA_MAX_LOADED_MODELS"] == "3"


def test_what_the_user_has_set_for_ollama_wins_unless_it_is_empty() -> None:
    theirs = {"OLLAMA_NUM_PARALLEL": "3", "OLLAMA_FLASH_ATTENTION": "", "LLAMA_ARG_CACHE_RAM": "9"}
    environ = ollama_environ(Settings(slots=8), theirs | {"LLAMA_ARG_SPEC_TYPE": "ngram-simple"})
    assert environ["OLLAMA_NUM_PARALLEL"] == "3"
    assert (environ["LLAMA_ARG_CACHE_RAM"], environ["LLAMA_ARG_SPEC_TYPE"]) == ("9", "ngram-simple")
    assert environ["OLLAMA_FLASH_ATTENTION"] == "1"
