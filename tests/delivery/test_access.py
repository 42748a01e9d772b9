"""`make access` against moto, with a stand-in for the AWS CLI that opens a port as Session Manager's plugin does."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from config import DEV
from delivery.access import main, write_kubeconfig
from testbed import ROOT
from testbed.ports import free_port
from testbed.tools import need_tool
from testbed.waiting import eventually
from tests.support.aws import ACCOUNT, REGION, Aws, run_moto

# Says that the instance isn't there yet for as long as the file `booting` has lines; then listens on the port it is
# given. What it was called with stands in `calls`, its process in `pid`.
AWS_CLI = """
import json, os, pathlib, socket, sys, time
here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
booting = (here / "booting").read_text().splitlines()
if booting:
    (here / "booting").write_text("\\n".join(booting[1:]))
    sys.exit(booting[0])
(here / "pid").write_text(str(os.getpid()))
port = json.loads(sys.argv[sys.argv.index("--parameters") + 1])["localPortNumber"][0]
with socket.create_server(("127.0.0.1", int(port))) as server:
    while not (here / "idle").exists():
        server.settimeout(0.1)
        try:
            server.accept()[0].close()
        except TimeoutError:
            pass
"""
NOT_YET = "An error occurred (TargetNotConnected) when calling the StartSession operation: i-0 is not connected."


@pytest.fixture(scope="module")
def aws(programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    with run_moto(tmp_path_factory.mktemp("moto") / "log") as found:
        ec2, eks = found.client("ec2"), found.client("eks")
        ec2.create_launch_template(LaunchTemplateName=DEV.access_name, LaunchTemplateData={"InstanceType": "t4g.micro"})
        subnets = [each["SubnetId"] for each in ec2.describe_subnets()["Subnets"][:2]]
        role = f"arn:aws:iam::{ACCOUNT}:role/cluster"
        eks.create_cluster(name=DEV.cluster_name, roleArn=role, resourcesVpcConfig={"subnetIds": subnets})
        yield found


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Return a folder with stand-ins for what `make access` needs."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("aws", "session-manager-plugin", "kubectl"):
        (folder / name).write_text(f"#!{sys.executable}\n{AWS_CLI}")
        (folder / name).chmod(0o755)
    (folder / "booting").touch()
    return folder


@pytest.fixture
def region_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cdk.json").write_text(json.dumps({"context": {"region": REGION}}))
    monkeypatch.setattr("command_line.CDK_JSON", tmp_path / "cdk.json")


def states(aws: Aws) -> list[str]:
    found = aws.client("ec2").describe_instances()["Reservations"]
    return [each["State"]["Name"] for reservation in found for each in reservation["Instances"]]


def start(aws: Aws, tools: Path, port: int) -> subprocess.Popen[str]:
    environ = aws.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(tools)}
    script = (
        "import command_line, pathlib, signal, sys; command_line.CDK_JSON = pathlib.Path(sys.argv[1]); "
        "signal.signal(signal.SIGINT, signal.default_int_handler); "  # ignored where pytest runs in the background
        "from delivery.access import main; sys.exit(main(sys.argv[2:]))"
    )
    command = [sys.executable, "-c", script, str(tools.parent / "cdk.json"), "--stage", "dev", "--port", str(port)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.usefixtures("region_given")
def test_it_opens_a_port_to_the_api_once_the_instance_is_there_and_ctrl_c_leaves_nothing(aws: Aws, tools: Path) -> None:
    (tools / "booting").write_text("\n".join([NOT_YET] * 2))
    port = free_port()
    process = start(aws, tools, port)
    try:
        eventually(lambda: (tools / "pid").exists() or process.poll() is not None, 60)
        said = [process.stdout.readline() for _ in range(3)]
        assert "The API of sluice-dev is open until Ctrl-C" in "".join(said), process.stderr.read()
        assert states(aws).count("running") == 1
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "running" not in states(aws)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tools / "pid").read_text()), 0)
    calls = [json.loads(line) for line in (tools / "calls").read_text().splitlines()]
    assert len(calls) == 3
    assert calls[-1][:2] == ["ssm", "start-session"]
    given = json.loads(calls[-1][calls[-1].index("--parameters") + 1])
    assert (given["portNumber"], given["localPortNumber"]) == (["443"], [str(port)])
    assert given["host"][0].endswith(".eks.amazonaws.com")


@pytest.mark.usefixtures("region_given")
@pytest.mark.parametrize("problem", ["An error occurred (AccessDeniedException): not authorized to perform"])
def test_what_the_aws_cli_refuses_is_said_at_once_and_the_instance_goes(aws: Aws, tools: Path, problem: str) -> None:
    (tools / "booting").write_text(problem)
    process = start(aws, tools, free_port())
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (2, f"sluice: Session Manager can't reach the instance: {problem}\n")
    assert "running" not in states(aws)


@pytest.mark.usefixtures("region_given")
def test_a_session_that_ends_by_itself_ends_the_instance_too_and_says_why(aws: Aws, tools: Path) -> None:
    (tools / "idle").touch()
    process = start(aws, tools, free_port())
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "ended" in said or "can't reach" in said
    assert "running" not in states(aws)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--stage", "local"], "stage 'local' isn't for AWS: its cluster needs no way in"),
        (["--stage", "dev", "--port", "0"], "--port: '0' is not a whole number from 1 to 65535"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(arguments)
    except SystemExit as stopped:  # argparse's own
        code = int(stopped.code or 0)
    assert (code, capsys.readouterr().err) == (2, f"sluice: {sentence}\n")


def test_a_missing_tool_is_named_with_where_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--stage", "dev"]) == 2
    assert capsys.readouterr().err.startswith("sluice: aws is missing: install it, https://docs.aws.amazon.com/")


def test_a_port_that_is_taken_is_refused_before_anything_is_started(
    tools: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tools))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert main(["--stage", "dev", "--port", str(port)]) == 2
    assert capsys.readouterr().err == f"sluice: port {port} is taken: name another one with --port\n"


API = "0123456789ABCDEF.gr7.eu-central-1.eks.amazonaws.com"


class Api(BaseHTTPRequestHandler):
    tokens: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.tokens.append(self.headers["Authorization"])
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"welcome")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def api(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """Serve as a cluster's API with a certificate for its name in AWS; yields the port and the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubernetes")]), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(API)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "api.pem").write_bytes(pem + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "api.pem")
    server = HTTPServer(("127.0.0.1", 0), Api)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port, pem.decode()
    server.shutdown()
    thread.join()
    server.server_close()


TOKEN_CLI = """#!/bin/sh
echo '{"apiVersion": "client.authentication.k8s.io/v1beta1", "kind": "ExecCredential", "status": {"token": "'"$*"'"}}'
"""


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("trusted", [True, False])
def test_kubectl_reaches_the_api_through_the_port_and_checks_its_name(
    api: tuple[int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    kubectl = need_tool("kubectl", "kubectl")
    port, pem = api
    (tmp_path / "aws").write_text(TOKEN_CLI)
    (tmp_path / "aws").chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    endpoint = f"https://{API if trusted else 'another.eks.amazonaws.com'}"
    authority = subprocess.run(["base64", "-w0"], input=pem, text=True, capture_output=True, check=True).stdout
    cluster: dict[str, Any] = {"name": "sluice-dev", "endpoint": endpoint, "certificateAuthority": {"data": authority}}
    path = write_kubeconfig(cluster, port, REGION)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    command = [kubectl, "--kubeconfig", str(path), "get", "--raw", "/version"]
    done = subprocess.run(command, env=environ, text=True, capture_output=True, timeout=60)
    if trusted:
        assert (done.returncode, done.stdout) == (0, "welcome"), done.stderr
        token = f"eks get-token --cluster-name sluice-dev --region {REGION}"
        assert Api.tokens[-1] == f"Bearer {token}"
    else:
        assert "not another.eks.amazonaws.com" in done.stderr
