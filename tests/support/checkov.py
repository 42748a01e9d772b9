"""checkov, in an environment of its own: its requirements clash with ours."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from testbed.tools import missing

CHECKOV = "checkov==3.3.30"
DEPENDENCIES_UNTIL = "2026-11-01T00:00:00Z"


def checkov(framework: str, folder: Path) -> Any:
    """Return the results for the files in a folder, all of which it could read."""
    uv = shutil.which(os.environ.get("UV", "uv")) or missing("uv is missing: run make test")
    tool = [uv, "tool", "run", "--quiet", "--exclude-newer", DEPENDENCIES_UNTIL, "--from", CHECKOV, "checkov"]
    options = ["--framework", framework, "--skip-download", "--output", "json", "--directory", str(folder)]
    done = subprocess.run([*tool, *options], text=True, capture_output=True, timeout=300)
    results = json.loads(done.stdout)
    assert results["summary"]["passed"] > 100
    assert results["summary"]["parsing_errors"] == 0
    return results["results"]


def failed(results: Any) -> set[str]:
    """Return the ids of the checks that failed."""
    return {each["check_id"] for each in results["failed_checks"]}
