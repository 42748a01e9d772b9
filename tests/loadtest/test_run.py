"""Load tests under a real k6, against servers that misbehave to order and against the gateway."""

import json
import os
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loadtest import __main__ as command
from loadtest.report import read
from testbed.gateway import serve
from testbed.ports import free_port
from testbed.stand_in import MODEL, StandIn
from testbed.tools import need_tool
from tests.support.answers import BUSY, CUT, GOOD, answering
from tests.support.stub import HANG, RESET, Answer, Request, stub

ONE_AFTER_THE_OTHER = ["--scenario", "ramp", "--users", "1", "--time-scale", "0.005", "--no-probe", "--slo", "600"]
SHORT = ["--minutes", "2"]
WITH_STREAM = ["--minutes", "10", "--probe"]  # 3 s: long enough that one begins
OPEN = ["--time-scale", "0.01", "--minutes", "2", "--slo", "600", "--timeout", "600"]
pytestmark = pytest.mark.usefixtures("k6")


@dataclass
class Done:
    """What became of a run: its exit code, what it said, and its report."""

    code: int
    out: str
    report: Any

    def outcomes(self) -> list[tuple[str, int]]:
        """Return the outcome and the attempts of each question, in their order."""
        return [(outcome, attempts) for _, _, outcome, attempts in self.report["requests"]]


@pytest.fixture
def load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs `python -m loadtest run` against a target."""

    def run(target: str, *options: str, model: str | None = MODEL) -> Done:
        named = [] if model is None else ["--model", model]
        where = ["--target", target, *named, "--out", str(tmp_path), "--name", "it"]
        code = command.main(["run", *where, *options, "--replace"])
        said, report = capsys.readouterr(), tmp_path / "it" / "report.json"
        return Done(code, said.out + said.err, json.loads(report.read_text()) if report.exists() else None)

    return run


def good(**changes: Any) -> Answer:
    return 200, {}, GOOD | changes


CASES: dict[str, tuple[list[Answer], tuple[str, int]]] = {
    "answered": ([good()], ("answered", 1)),
    "answered at the token limit": ([good(finish_reason="length")], ("answered", 1)),
    "answered after a retry": ([BUSY, BUSY, good()], ("answered", 3)),
    "refused by a quota": ([(429, *BUSY[1:])], ("refused", 4)),
    "refused": ([BUSY], ("refused", 4)),
    "refusal without Retry-After": ([(503, {}, {})], ("error", 1)),
    "refusal with a Retry-After that is none": ([(503, {"Retry-After": "0"}, {})], ("error", 1)),
    "timeout": ([HANG], ("timeout", 1)),
    "error": ([(500, {}, {})], ("error", 1)),
    "connection lost": ([RESET], ("error", 1)),
    "empty": ([good(response=" \n")], ("bad_answer", 1)),
    "truncated": ([good(finish_reason=None)], ("bad_answer", 1)),
    "cut off": ([CUT], ("error", 1)),
    "no JSON": ([(200, {}, b"<html>")], ("bad_answer", 1)),
    "another model's": ([good(model="another")], ("bad_answer", 1)),
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Done, list[str]]]:
    """The report of a run in which each case came up, again and again, and the prompts that were asked."""
    out = tmp_path_factory.mktemp("mixed")
    with answering(*(turns for turns, _ in CASES.values())) as target:
        arguments = ["--target", target.url, "--model", MODEL, "--out", str(out), "--timeout", "60"]
        code = command.main(["run", *arguments, *ONE_AFTER_THE_OTHER])
        yield Done(code, "", json.loads((out / "ramp/report.json").read_text())), target.prompts


@pytest.mark.parametrize("case", CASES)
def test_each_outcome_is_told_from_the_others(mixed: tuple[Done, list[str]], case: str) -> None:
    found = mixed[0].outcomes()[list(CASES).index(case) :: len(CASES)]
    assert set(found) == {CASES[case][1]}


def test_the_counts_are_those_of_the_questions(mixed: tuple[Done, list[str]]) -> None:
    done, prompts = mixed
    counts, outcomes = done.report["counts"], done.outcomes()
    for name in ("answered", "refused", "timeout", "error", "bad_answer"):
        assert counts[name] == sum(outcome == name for outcome, _ in outcomes) > 0
    assert counts["requests"] == len(outcomes)
    assert counts["attempts"] == sum(attempts for _, attempts in outcomes) == len(prompts)
    assert counts["answered_after_retry"] == outcomes.count(("answered", 3))
    refused = [name for name, (_, end) in CASES.items() if end[0] == "refused"]
    whole, rest = divmod(len(outcomes), len(CASES))
    each = [4 if name in refused else 2 if name == "answered after a retry" else 0 for name in CASES]
    assert counts["refusals"] == whole * sum(each) + sum(each[:rest])
    assert done.report["answered_share"] == pytest.approx(counts["answered"] / counts["requests"], abs=1e-6)


def test_too_many_failures_break_a_threshold(mixed: tuple[Done, list[str]]) -> None:
    done, _ = mixed
    assert (done.code, done.report["valid"]) == (1, True)
    passed = {target["what"]: target["passed"] for target in done.report["targets"]}
    assert passed == {"rate of failed": False, "p(95) of asked{outcome:answered}, s": True}


def test_every_question_differs_and_two_systems_get_the_same_ones(mixed: tuple[Done, list[str]], load: Any) -> None:
    questions = list(dict.fromkeys(mixed[1]))
    assert [int(prompt.split(".")[0]) for prompt in questions] == list(range(len(questions)))
    with answering() as naive:
        load(naive.url, *ONE_AFTER_THE_OTHER, *SHORT, "--api", "naive")
    both = min(len(questions), len(naive.prompts))
    assert questions[:both] == naive.prompts[:both]


@pytest.mark.parametrize(("api", "path"), [("naive", "/generate"), ("ollama", "/api/generate")])
def test_who_knows_no_refusals_is_asked_again_at_once(load: Any, api: str, path: str) -> None:
    with answering([(500, {}, {}), RESET, (503, {}, {}), good()]) as target:
        done = load(target.url, *ONE_AFTER_THE_OTHER, *SHORT, "--api", api)
    assert done.code == 0
    assert set(done.outcomes()) == {("answered", 4)}
    assert done.report["counts"]["refusals"] == 0
    assert set(target.paths) == {path}


def test_ollamas_answer_must_be_done(load: Any) -> None:
    with answering([good(done=False)], [good(done_reason="load")]) as target:
        done = load(target.url, *ONE_AFTER_THE_OTHER, *SHORT, "--api", "ollama", "--retries", "0")
    assert set(done.outcomes()) == {("bad_answer", 1)}


def test_questions_that_nobody_was_free_to_ask_make_a_run_invalid(load: Any) -> None:
    with answering([HANG]) as target:
        done = load(
            target.url, "--scenario", "steady", "--rate", "20", "--users", "1", "--no-probe", *OPEN, "--timeout", "30"
        )
    assert done.code == 1
    assert not done.report["valid"]
    assert done.report["counts"]["dropped"] > 0
    assert "never asked: raise --users" in done.report["invalid_because"][0]
    assert "**Invalid**" in done.out


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The gateway before a model of 20 tokens at 2 ms, with a queue for two."""
    engine = StandIn(tokens=["word "] * 20, first_delay=0.01, token_delay=0.002).start()
    log = tmp_path_factory.mktemp("gateway") / "log"
    with serve(engine.url, log, slots=2, max_queue=2, queue_timeout=1) as served:
        yield served.url
    engine.stop()


def test_a_rate_that_the_gateway_holds_is_answered_and_the_stream_beside_is_timed(load: Any, gateway: str) -> None:
    done = load(gateway, "--scenario", "steady", "--rate", "8", "--max-tokens", "10", *OPEN)
    assert done.code == 0, done.out
    report = done.report
    assert report["counts"]["requests"] == report["counts"]["answered"]
    assert set(report["probe"]["counts"]) == {"answered"}
    for name in ("latency_s", "ttft_s", "itl_s"):
        low, value, high = (report[name]["p50"][index] for index in (1, 0, 2))
        assert 0 < low <= value <= high <= report[name]["max"]
    assert report["ttft_s"]["p50"][0] > 0.01
    assert report["command"].startswith("python -m loadtest run --scenario steady --target ")
    assert (report["settings"]["rate"], report["settings"]["max_tokens"]) == (8, 10)


def test_over_ten_times_the_capacity_is_refused_and_nothing_breaks(load: Any, gateway: str) -> None:
    done = load(gateway, "--scenario", "stress", "--rate", "30", "--retries", "0", "--users", "100", *OPEN)
    counts = done.report["counts"]
    assert (counts["error"], counts["timeout"], counts["bad_answer"]) == (0, 0, 0)
    assert counts["refused"] > 0
    assert {"what": "rate of broken", "limit": "==0", "value": 0, "passed": True} in done.report["targets"]


def test_a_stage_says_its_model_and_node(load: Any) -> None:
    with answering([good(model="moondream")]) as target:
        target.model = "moondream"
        done = load(target.url, *ONE_AFTER_THE_OTHER, *SHORT, "--stage", "dev", model=None)
    assert done.code == 0, done.out
    assert {name: done.report[name] for name in ("stage", "model", "node")} == {
        "stage": "dev",
        "model": "moondream",
        "node": "c7i.xlarge",
    }


def test_without_a_model_the_one_that_is_served_must_answer(load: Any) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with answering() as target:
        assert load(target.url, *ONE_AFTER_THE_OTHER, *SHORT, model=None).report["model"] == MODEL
    done = load(nobody, "--scenario", "ramp", model=None)
    assert (done.code, done.out.count("\n")) == (2, 1)
    assert f"sluice: {nobody}/v1/models can't be asked which model is served: " in done.out


@pytest.mark.parametrize("scenario", ["step", "spike", "soak"])  # the others run in the tests above
def test_the_other_scenarios_run(load: Any, scenario: str) -> None:
    with answering() as target:
        done = load(target.url, "--scenario", scenario, "--rate", "8", "--no-probe", *OPEN, "--minutes", "1")
    assert done.code == 0, done.out
    assert done.report["counts"]["requests"] > 0


KUBECTL = """#!/bin/sh
case $3 in
  */namespaces/other/*) echo 'deployments.apps "sluice" not found' >&2; exit 1 ;;
  */deployments/sluice) echo '{"status": {"replicas": 3, "readyReplicas": 2}}' ;;
  */pods?labelSelector=*) echo '{"items": [
    {"metadata": {"name": "proxy-1"}, "status": {"phase": "Running"}},
    {"metadata": {"name": "proxy-2"}, "status": {"phase": "Running"}},
    {"metadata": {"name": "proxy-3"}, "status": {"phase": "Pending"}}]}' ;;
  */pods/proxy-2:8404/proxy/metrics) exit 1 ;;
  */pods/proxy-1:8404/proxy/metrics)
    echo 'haproxy_backend_current_queue{proxy="generate"} 4'
    echo 'haproxy_backend_current_queue{proxy="rest"} 9'
    echo 'haproxy_server_current_sessions{proxy="generate",server="pod1"} 1'
    echo 'haproxy_server_current_sessions{proxy="generate",server="pod2"} 2' ;;
  /apis/metrics.k8s.io/*) echo '{"items": [
    {"containers": [{"name": "gateway", "usage": {"memory": "40960Ki"}}]},
    {"containers": [{"name": "gateway", "usage": {"memory": "42Mi"}}]}]}' ;;
  *) echo "$3" >&2; exit 2 ;;
esac
"""


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster of which only the answers are there."""
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("kubectl")
def test_replicas_and_queue_are_looked_at_while_it_runs(load: Any) -> None:
    with answering() as target:
        done = load(target.url, "--scenario", "steady", "--namespace", "sluice", "--rate", "8", "--no-probe", *OPEN)
    assert len(done.report["samples"]) > 0
    for sample in done.report["samples"]:
        assert sample.pop("at") >= 0
        assert sample == {"replicas": 3, "ready": 2, "queued": 4, "in_flight": 3, "memory_mib": {"gateway": 42.0}}


@pytest.mark.usefixtures("kubectl")
def test_a_namespace_without_sluice_ends_the_run_before_it_starts(load: Any) -> None:
    with answering() as target:
        done = load(target.url, "--scenario", "steady", "--namespace", "other")
    assert (done.code, done.report, target.prompts) == (2, None, [])
    assert done.out == (
        "sluice: kubectl get --raw /apis/apps/v1/namespaces/other/deployments/sluice: "
        'deployments.apps "sluice" not found\n'
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--scenario", "rampx"], "--scenario: 'rampx' is none of ramp, steady, step, spike, soak, stress"),
        (["--api", "openai"], "--api: 'openai' is none of sluice, naive, ollama"),
        (["--target", "localhost:5000"], "--target: 'localhost:5000' is not an address such as http://localhost:5000"),
        (["--name", "../x"], "--name: '../x' is not a folder's name of letters, digits, dots and dashes"),
        (["--digest", "latest"], "--digest: 'latest' is not a digest: sha256: and 64 hex digits, never a tag"),
        (["--rate", "0"], "--rate: '0' is not a number of questions a second from 0.001 to 10000"),
        (["--rate", "fast"], "--rate: 'fast' is not a number of questions a second from 0.001 to 10000"),
        (["--users", "1.5"], "--users: '1.5' is not a whole number from 1 to 2000"),
        (["--users", "9999"], "--users: '9999' is not a whole number from 1 to 2000"),
        (["--users", "0"], "--users: '0' is not a whole number from 1 to 2000"),
        (["--rate", "5"], "--rate doesn't go with ramp, which has users instead: see --users"),
        (["--minutes", "0"], "--minutes: '0' is not a number of minutes from 0.001 to 1440"),
        (["--model", "", "--api", "ollama"], "--model is missing: --api ollama doesn't say which one it serves"),
        (["--stage", "test"], "--stage: stage 'test' doesn't exist: local, dev, prod do"),
        (["--api", "naive", "--max-tokens", "9"], "--max-tokens can't be told to --api naive: leave it out"),
    ],
)
def test_a_bad_option_is_named_with_what_is_allowed(load: Any, capsys: Any, options: list[str], reason: str) -> None:
    try:
        done = load("http://127.0.0.1:9", "--scenario", "ramp", *options)
        code, said = done.code, done.out
    except SystemExit as end:  # argparse's own
        code, said = end.code, capsys.readouterr().err
    assert (code, said) == (2, f"sluice: {reason}\n")


def test_a_target_that_is_not_what_it_should_be_ends_the_run_with_one_line(load: Any) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with answering() as target:
        said = {
            load(target.url, *ONE_AFTER_THE_OTHER, model="moondream").out,
            load(nobody, *ONE_AFTER_THE_OTHER).out,
            load(nobody, *ONE_AFTER_THE_OTHER, "--api", "naive").out,
        }
    assert said == {
        f"sluice: k6 ended with 107: {target.url} serves {MODEL}, not moondream\n",
        f"sluice: k6 ended with 107: {nobody}/v1/models: status 0 dial: connection refused\n",
        f"sluice: k6 ended with 107: {nobody}/generate gave no answer to warm up: status 0 dial: connection refused\n",
    }
    assert target.prompts == []


def test_without_k6_one_line_says_so(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.k6.shutil.which", lambda *_, **__: None)
    done = load("http://127.0.0.1:9", "--scenario", "ramp")
    assert (done.code, done.out) == (2, "sluice: k6 is missing: `make sync` installs it\n")


def test_a_folder_that_cannot_be_written_ends_the_run_before_it_starts(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "file").write_text("")
    with answering() as target:
        options = ["--scenario", "steady", "--target", target.url, "--out", str(tmp_path / "file")]
        assert command.main(["run", *options]) == 2
    assert capsys.readouterr().err.startswith(f"sluice: {tmp_path}/file/steady can't be written: ")
    assert (target.prompts, target.authorizations) == ([], {})


def test_a_second_run_does_not_replace_the_first(tmp_path: Path, capsys: Any) -> None:
    def run(target: str, *options: str) -> int:
        where = ["--target", target, "--model", MODEL, "--out", str(tmp_path)]
        return command.main(["run", *where, *ONE_AFTER_THE_OTHER, *SHORT, *options])

    with answering() as target:
        assert [run(target.url), run(target.url)] == [0, 0]
        assert sorted(each.name for each in tmp_path.iterdir()) == ["ramp", "ramp-2"]
        assert read(tmp_path / "ramp-2")["name"] == "ramp-2"
        capsys.readouterr()
        assert run(target.url, "--name", "ramp") == 2
    said = "has a report, or a run under way: choose another --name, or --replace it"
    assert capsys.readouterr().err == f"sluice: {tmp_path}/ramp {said}\n"


def test_credentials_in_an_address_are_used_and_never_printed(load: Any, tmp_path: Path) -> None:
    with answering() as target:
        address = target.url.replace("://", "://lovelace:p%40ss@") + "/v1/"
        done = load(address, *ONE_AFTER_THE_OTHER, *WITH_STREAM, model=None)
    assert done.code == 0, done.out
    assert target.authorizations.keys() == {f"Basic {b64encode(b'lovelace:p@ss').decode()}"}
    assert len(target.prompts) > 0 < len(target.streams)
    assert done.report["target"] == target.url
    written = "".join(path.read_text() for path in (tmp_path / "it").iterdir())
    for text in (done.out, written):
        assert "lovelace" not in text
        assert "p%40ss" not in text
        assert "p@ss" not in text


def test_credentials_and_a_key_exclude_each_other(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "secret")
    done = load("http://ada:pass@127.0.0.1:9", "--scenario", "ramp")
    assert (done.code, done.out) == (
        2,
        "sluice: --target has credentials and API_KEY is set: a request can carry one of them\n",
    )


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS, and the certificate of its own that clients must be told to trust."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    new = [need_tool("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    about = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*new, *about, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate


@pytest.mark.parametrize("model", [None, MODEL])
def test_a_certificate_of_ones_own_is_trusted_as_the_environment_says(
    load: Any, tls: tuple[ssl.SSLContext, Path], model: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, certificate = tls
    with answering(tls=context) as target:
        done = load(target.url, *ONE_AFTER_THE_OTHER, *WITH_STREAM, model=model)
        assert (done.code, done.report, done.out.count("\n")) == (2, None, 1)
        assert done.out.endswith("; name the file of its CA in SSL_CERT_FILE\n")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        done = load(target.url, *ONE_AFTER_THE_OTHER, *WITH_STREAM, model=model)
    assert done.code == 0, done.out
    assert set(done.report["probe"]["counts"]) == {"answered"}


def test_ollama_itself_is_recognised(load: Any) -> None:
    gets = {"/": b"Ollama is running", "/v1/models": {"data": [{"id": MODEL}]}}

    def answer(request: Request) -> Answer:
        found = gets.get(request.path) if request.method == "GET" else None
        return (200, {}, found) if found else (404, {}, b"404 page not found")

    with stub(answer) as ollama:
        done = load(ollama.url, *ONE_AFTER_THE_OTHER, model=None)
    said = f"{ollama.url} is Ollama itself, not Sluice: use --api ollama"
    assert (done.code, done.out) == (2, f"sluice: k6 ended with 107: {said}\n")
