"""`python -m delivery.doctor --stage dev`: a line for each check, and a sentence for each problem."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import suppress

import boto3  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from command_line import InputError, Parser, read_stage, run
from context import Context
from delivery.doctor import after, before
from delivery.doctor.check import Check, Patient

DONE = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")  # of a stack


def main(arguments: list[str]) -> int:
    """Look at everything and return the exit code: 1 if there is a problem."""
    return run(parser(), arguments)


def parser() -> Parser:
    """Return the command line."""
    made = Parser(
        prog="python -m delivery.doctor",
        description="Find what keeps a stage from being deployed, or from working.",
    )
    made.add_argument("--stage", type=read_stage, required=True)
    made.set_defaults(run=examine)
    return made


def examine(options: argparse.Namespace) -> int:
    """Run the checks. Raises ConfigError or InputError."""
    if options.stage.node is None:
        raise InputError(f"stage {options.stage.name!r} isn't for AWS: make demo shows it on this machine")
    context = Context.from_cdk_json()
    session = boto3.Session(region_name=context.region)
    patient = Patient(stage=options.stage, context=context, client=session.client)
    problems = 0
    for check, found in everything(patient):
        print(f"{'problem' if found else 'ok':8} {check.name}" + "".join(f"\n    {each}" for each in found), flush=True)
        problems += len(found)
    return 1 if problems else 0


def everything(patient: Patient) -> Iterator[tuple[Check, list[str]]]:
    """Yield the checks of the account, and once the stage is deployed those of its cluster, with their problems."""
    yield from results(patient, before.CHECKS)
    with suppress(BotoCoreError, ClientError):  # then the account's checks have said so
        if before.deployed(patient).get(f"{patient.stage.cluster_name}-cluster", "").endswith(DONE):
            yield from results(patient, after.CHECKS)


def results(patient: Patient, checks: tuple[Check, ...]) -> Iterator[tuple[Check, list[str]]]:
    """Yield each check with its problems; one that can't look is a problem too."""
    for check in checks:
        found: list[str] = []
        try:
            found.extend(check.find(patient))
        except (BotoCoreError, ClientError, OSError) as error:
            found.append(f"couldn't be looked at: {error}")
        yield check, found
        if found and check.vital:
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
