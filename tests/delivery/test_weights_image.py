import os
import subprocess
from pathlib import Path

import pytest
import yaml

from testbed import ROOT


@pytest.mark.usefixtures("programs")
def test_the_weights_image_has_the_models_files_a_layer_each_and_nothing_else(tmp_path: Path) -> None:
    steps = yaml.safe_load((ROOT / ".github/workflows/models.yml").read_text())["jobs"]["build"]["steps"]
    [pull] = [step for step in steps if step.get("name") == "Pull the model"]
    [build] = [step["with"] for step in steps if step.get("id") == "build"]
    folder = {"${{ runner.temp }}": str(tmp_path)}
    store = tmp_path / pull["env"]["STORE"].removeprefix("${{ runner.temp }}/")
    files = "blobs/sha256-b blobs/sha256-a manifests/library/moondream/latest"
    pulled = f'cd "$STORE" && mkdir -p blobs manifests/library/moondream && touch {files}'
    (tmp_path / "docker").write_text(f'#!/bin/sh\nif [ "$1" = exec ]; then {pulled}; fi\n')
    (tmp_path / "docker").chmod(0o755)
    environ = {"STORE": str(store), "RUNNER_TEMP": str(tmp_path), "MODEL": "moondream", "OLLAMA_IMAGE": "ollama"}
    environ["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(["bash", "-eo", "pipefail", "-c", pull["run"]], env=environ, check=True, capture_output=True)
    for old, new in folder.items():
        build = {key: value.replace(old, new) if isinstance(value, str) else value for key, value in build.items()}
    assert build["context"] == str(store)
    assert Path(build["file"]).read_text().splitlines() == [
        "FROM scratch",
        "COPY --link blobs/sha256-a /blobs/",
        "COPY --link blobs/sha256-b /blobs/",
        "COPY --link manifests /manifests",
    ]
