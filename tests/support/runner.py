"""A repository on which act runs the workflows on this machine, with stand-ins for what belongs to GitHub and AWS.

act (self-hosted mode) runs every `run:` step and every expression for real, against a real git remote. It leaves
actions/checkout out (its workspace is a copy of the clone), and knows neither permissions nor concurrency, nor which
branch may use an environment. Other actions can't be fetched without a network: a composite action stands in for each,
and so do a few commands on PATH.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from delivery.branch import Branch
from launcher.cache import cache_dir, exclusive
from testbed import ROOT
from testbed.tools import missing, need_tool
from tests.support.aws import CONTEXT
from tests.support.repositories import Origin, ci_keys, git, new_origin

BIN = Path(sys.executable).parent
WORKFLOWS = ROOT / ".github/workflows"
COPIED = [
    ".github",
    ".gitignore",
    "argocd",
    "cdk.json",
    "cdk8s_manifests",
    "command_line.py",
    "config",
    "context.py",
    "delivery",
    "launcher",
    "loadtest",
    "service",
]
# What is built: an image's manifest, and its digest.
MANIFEST = "a manifest"
BUILT = f"sha256:{hashlib.sha256(MANIFEST.encode()).hexdigest()}"
# The same of weights, which weights.json has.
OF_WEIGHTS = "a manifest of weights"
WEIGHTS = f"sha256:{hashlib.sha256(OF_WEIGHTS.encode()).hexdigest()}"
# Outputs of the actions that have any which the workflows read.
OUTPUTS = {
    "aws-actions/amazon-ecr-login": {"registry": "123456789012.dkr.ecr.eu-central-1.amazonaws.com"},
    "docker/build-push-action": {"digest": BUILT},
}
# What the stand-ins of actions do, by their inputs. act leaves a checkout out unless it has a `ref`.
SCRIPTS = {
    "actions/checkout": (["ref"], 'git clone --quiet "$ORIGIN" . && git checkout --quiet --detach "$REF"'),
    "actions/upload-artifact": (
        ["name", "path"],
        'mkdir -p "$ARTIFACTS/$NAME"; if [ -d "$PATHS" ]; then cp -r "$PATHS"/. "$ARTIFACTS/$NAME"; '
        'else cp "$PATHS" "$ARTIFACTS/$NAME"; fi',
    ),
    "anchore/sbom-action": ([], "echo {} > sbom.spdx.json"),
    "docker/build-push-action": ([], "touch image.tar"),
    "actions/download-artifact": (["name", "path"], 'mkdir -p "$PATHS" && cp -r "$ARTIFACTS/$NAME/." "$PATHS"'),
}
# What the stand-ins on PATH do, beside writing their arguments into the log.
LAY_OUT_VENV = 'case "$*" in sync*) mkdir -p .venv && ln -sfn "$TOOLS" .venv/bin ;; synth*) mkdir cdk.out ;; esac'
WRITE_BODY = 'for a; do case $a in body=@*) cat "${a#body=@}" >> "$LOG" ;; esac; done'
SYNTHESISE = (
    'case "$*" in *" synth "*) mkdir -p cdk.out && touch cdk.out/sluice-registry.template.json;'
    " case $PWD in */base) ;; *) touch cdk.out/sluice-new.template.json ;; esac ;; esac"
)
# act ends with a step that fails, and so at times without its last lines: what steps say is kept beside it.
SHOW_MANIFEST = (
    f'case "$*" in *" --raw "*/weights@*) printf %s "{OF_WEIGHTS}" ;; *" --raw "*) printf %s "{MANIFEST}" ;; esac'
)
BASH = """#!/bin/bash
[ -z "$IN_STEP" ] || exec /bin/bash "$@"
export IN_STEP=yes
set -o pipefail
/bin/bash "$@" 2>&1 | tee -a "$STEPS"
"""
COMMANDS = {
    "docker": SHOW_MANIFEST,
    "go": "",
    "gh": WRITE_BODY,
    "make": LAY_OUT_VENV,
    "npm": "",
    "npx": SYNTHESISE,
    "sudo": "",
}


def tool(name: str) -> str:
    """Return the path of a program that `make sync` installs."""
    return shutil.which(name, path=f"{BIN}{os.pathsep}{os.environ['PATH']}") or missing(f"{name} is missing: make sync")


def go_tool(module: str, version: str) -> str:
    """Return the path of a Go program, built from its module the first time, which takes a minute or two for act."""
    tools, name = cache_dir(os.environ) / "tools", module.rpartition("/")[2]
    program = tools / f"{name}-{version}"
    with exclusive(tools):
        if not program.exists():
            environ = os.environ | {"GOBIN": str(tools)}
            subprocess.run([need_tool("go", "golang-go"), "install", f"{module}@{version}"], env=environ, check=True)
            (tools / name).rename(program)
    return str(program)


@dataclass
class Run:
    """A finished run: whether it succeeded, what act and the steps said, and the commands called, a line each."""

    succeeded: bool
    output: str
    calls: str

    def outcome(self, job: str) -> str:
        """Return `succeeded` or `failed` for a job by its id, or `skipped`."""
        found = re.search(rf"^\[[^\]]*\b{job}(?:-\d+)?\s*\] 🏁  Job (\w+)", self.output, re.MULTILINE)
        return found[1] if found else "skipped"


@dataclass
class Runner:
    """The repository: `origin` stands for GitHub, `branch` is a clone of it. Main's last two commits hold the same."""

    folder: Path
    act: str
    k6: str = ""
    origin: Origin = field(init=False)
    branch: Branch = field(init=False)

    def __post_init__(self) -> None:
        self.origin = new_origin(self.folder, commits=1)
        self.branch = self.origin.clone()
        for name in COPIED:
            source, target = ROOT / name, self.branch.repo / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "reports"))
            else:
                shutil.copy(source, target)
        self._edit_copies()
        self.commit("Everything")
        self.commit("A change")
        self._put_stand_ins()

    def _edit_copies(self) -> None:
        """Fill in what an owner fills in, and leave out the one key that act doesn't know."""
        repo = self.branch.repo
        cdk = json.loads((repo / "cdk.json").read_text())
        cdk["context"] |= CONTEXT
        (repo / "cdk.json").write_text(json.dumps(cdk))
        shutil.rmtree(repo / "argocd/keys", ignore_errors=True)
        (repo / "argocd/keys").mkdir()
        for id_, key in ci_keys().export().items():
            (repo / f"argocd/keys/{id_}.asc").write_text(key)
        (repo / "delivery/weights.json").write_text(json.dumps({"moondream": WEIGHTS, "gemma3-270m": WEIGHTS}))
        for path in (repo / ".github/workflows").iterdir():
            path.write_text(re.sub(r"\n *queue: max.*", "", path.read_text()))

    def commit(self, message: str) -> str:
        """Commit everything in the clone to main, push it, and return the commit."""
        git(self.branch.repo, "add", "--all")
        git(self.branch.repo, "commit", "--quiet", "--allow-empty", "--message", message)
        git(self.branch.repo, "push", "--quiet", "origin", "HEAD:main")
        self.origin.main.append(self.origin.tip("refs/heads/main"))
        return self.origin.main[-1]

    def answer_at(self, url: str) -> None:
        """Say on main where dev is reached."""
        path = self.branch.repo / "cdk.json"
        cdk = json.loads(path.read_text())
        cdk["context"]["addresses"] = f"dev={url}"
        path.write_text(json.dumps(cdk))
        self.commit("An address")

    def _put_stand_ins(self) -> None:
        bin_ = self.folder / "bin"
        bin_.mkdir()
        for name, script in COMMANDS.items():
            (bin_ / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "$LOG"\n{script}\n')
            (bin_ / name).chmod(0o755)
        (bin_ / "bash").write_text(BASH)
        (bin_ / "bash").chmod(0o755)
        tools = self.folder / "tools"
        tools.mkdir()
        for name, program in {"python": sys.executable, "k6": self.k6}.items():
            (tools / name).write_text(f'#!/bin/sh\nexec {program} "$@"\n')
            (tools / name).chmod(0o755)

    def _actions(self) -> list[str]:
        """Return act's options that put a composite action in each action's place."""
        texts = (path.read_text() for path in WORKFLOWS.iterdir())
        options = []
        for use in sorted({use for text in texts for use in re.findall(r"uses: ([\w-]+/\S+)", text)}):
            folder = self.folder / "actions" / use.replace("/", "-")
            if not folder.exists():
                _write_action(folder, use.partition("@")[0])
            options += ["--local-repository", f"{use}={folder}"]
        return options

    def run(self, workflow: str, event: str, payload: dict[str, Any], *options: str) -> Run:
        """Run a workflow on an event with its payload; options are act's, such as `--var NAME=VALUE`."""
        log, steps, path = (self.folder / name for name in ("calls.log", "steps.log", "event.json"))
        log.write_text("")
        steps.write_text("")
        path.write_text(json.dumps({"repository": {"default_branch": "main"}, "ref": "refs/heads/main", **payload}))
        environ = os.environ | {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "LOG": str(log),
            "STEPS": str(steps),
            "TOOLS": str(self.folder / "tools"),
            "ORIGIN": str(self.origin.path),
            "ARTIFACTS": str(self.folder / "artifacts"),
            "SIGNING_KEY": ci_keys().export_private(),
        }
        shutil.rmtree(self.folder / "artifacts", ignore_errors=True)
        command = [self.act, event, "--workflows", f".github/workflows/{workflow}.yml", "--eventpath", str(path)]
        command += [
            "--platform",
            "ubuntu-24.04=-self-hosted",
            "--no-cache-server",
            "--env",
            "GITHUB_REPOSITORY=octo/sluice",
        ]
        for secret in ("GITHUB_TOKEN=token", "SIGNING_KEY", "SMOKE_API_KEY=key"):
            command += ["--secret", secret]
        command += [*self._actions(), *options]
        done = subprocess.run(
            command,
            cwd=self.branch.repo,
            env=environ,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=180,
        )
        return Run(done.returncode == 0, done.stdout + steps.read_text(), log.read_text())


def _write_action(folder: Path, name: str) -> None:
    outputs = {key: {"value": value} for key, value in OUTPUTS.get(name, {}).items()}
    inputs, script = SCRIPTS.get(name, ([], f"echo {name}"))
    # Not PATH, which the shell needs.
    variables = {{"path": "PATHS"}.get(each, each.upper()): f"${{{{ inputs.{each} }}}}" for each in inputs}
    steps = [{"shell": "bash", "run": script, "env": variables}]
    folder.mkdir(parents=True)
    runs = {"using": "composite", "steps": steps}
    action = {"name": name, "inputs": {each: {} for each in inputs}, "outputs": outputs, "runs": runs}
    (folder / "action.yml").write_text(json.dumps(action))
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", name)
