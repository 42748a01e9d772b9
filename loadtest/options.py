"""The options of `python -m loadtest run`."""

import argparse

from command_line import number, one_of, read_digest, read_stage, whole
from loadtest.address import read_address
from loadtest.plan import APIS, MOST_USERS, RATE, RETRIES, SLO, TIMEOUT
from loadtest.reporting.reserve import add_folder_options
from loadtest.scenarios import SCENARIOS

MINUTES = number(0.001, 1440, of="minutes")
TARGET = "address of the deployment; API_KEY in the environment if it has keys, SSL_CERT_FILE if it has its own CA"
EPILOG = "scenarios:\n" + "\n".join(f"  {name:<8} {scenario.about}" for name, scenario in SCENARIOS.items())


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options. Only those of the folder have a default: the others are the plan's."""
    add, scenarios, seconds = parser.add_argument, list(SCENARIOS), number(0.001, 3600, of="seconds")
    add("--scenario", type=one_of(scenarios), required=True, help=f"one of {', '.join(scenarios)}")
    add("--target", type=read_address, required=True, metavar="URL", help=TARGET)
    add("--model", help="which must answer, by its name in Ollama; default: the stage's, else what Sluice serves")
    add_folder_options(parser, default="the scenario")
    add("--api", type=one_of(APIS), help=f"what the target speaks: {', '.join(APIS)}; default: sluice")
    rate = number(0.001, 10_000, of="questions a second")
    add("--rate", type=rate, help=f"questions a second at 1 ×, in scenarios that have a rate; default: {RATE:g}")
    users = "users at most; default: the scenario's, or enough for its rate"
    add("--users", type=whole(1, MOST_USERS), help=users)
    add("--minutes", type=MINUTES, help="how long instead of the scenario's own time")
    scale = "multiplies every time, patience and SLO too; default: 1"
    add("--time-scale", type=number(0.001, 10), metavar="F", help=scale)
    add("--timeout", type=seconds, metavar="S", help=f"seconds a client waits for one attempt; default: {TIMEOUT:g}")
    add("--slo", type=seconds, metavar="S", help=f"seconds within which an answer is good; default: {SLO:g}")
    add("--retries", type=whole(0, 20), help=f"how often a question is asked again; default: {RETRIES}")
    add("--warm-up", type=whole(1, 100), help="questions before it counts, all at once; default: 4")
    add("--max-tokens", type=whole(1, 100_000), help="longest answer; default: the target's own limit")
    alongside = "one stream at a time alongside the scenario; default: yes"
    add("--probe", action=argparse.BooleanOptionalAction, help=alongside)
    add("--namespace", metavar="NS", help="sample replicas and queue there with kubectl")
    add("--stage", type=read_stage, help="the stage that the target is, for its model, and for the report")
    add("--digest", type=read_digest, help="for the report: the image that runs there")
    add("--node", help="for the report: what it runs on; default: the stage's")
    add("--note", help="for the report: what else a reader must know, such as what was simulated")
    parser.epilog, parser.formatter_class = EPILOG, argparse.RawDescriptionHelpFormatter
