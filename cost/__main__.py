"""`python -m cost --stage prod`: a table in Markdown, as it stands on pull requests, or JSON."""

import argparse
import json
import math
import sys

from config import ConfigError, find_stage
from context import CDK_JSON
from cost.estimate import estimate
from cost.prices import Prices
from cost.report import Report

# The predecessor's mean, with one slot a pod. Slots share a pod's CPUs: with more of them each generation takes longer.
SECONDS_PER_GENERATION = 12


def main(arguments: list[str]) -> None:
    """Print the report; bad input ends with one sentence."""
    parser = argparse.ArgumentParser(prog="python -m cost", description="What a stage costs on AWS.")
    parser.add_argument("--stage", required=True)
    parser.add_argument("--region", help="default: the region in cdk.json")
    parser.add_argument("--seconds-per-generation", default=str(SECONDS_PER_GENERATION), metavar="SECONDS")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    try:
        stage, prices = find_stage(asked.stage), Prices(asked.region or _region())
        seconds = _seconds(asked.seconds_per_generation)
        report = Report(stage=stage, prices=prices, seconds=seconds, lines=estimate(stage, prices))
    except ConfigError as error:
        sys.exit(f"sluice: {error}")
    print(report.as_json() if asked.json else report.as_markdown())


def _region() -> str:
    region: str = json.loads(CDK_JSON.read_text())["context"].get("region", "")
    if not region:
        raise ConfigError("region is missing: set it in cdk.json or with --region")
    return region


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigError(f"--seconds-per-generation={text} is not a number of seconds above 0")
    return seconds


if __name__ == "__main__":
    main(sys.argv[1:])
