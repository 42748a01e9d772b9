import json
import tomllib
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from config import C7G_2XLARGE, C7G_XLARGE, DEV, PROD, STAGES, LoadBalancer, Node, Stage
from cost.__main__ import main
from cost.estimate import estimate, per_thousand, pods_per_node, savings
from cost.prices import PRICES, Prices
from cost.report import CostReport
from tests.support.several_models import EMBEDDING

TABLE = tomllib.loads(PRICES.read_text())
REGIONS = ("us-east-1", "eu-central-1")
ON_AWS = [stage for stage in STAGES.values() if stage.node]

# Round numbers, for a bill that can be checked in the head.
ROUND = {
    "c7i.xlarge": 1,
    "m7g.large": 0.5,
    "auto_mode": 0.1,
    "eks_cluster": 2,
    "gp3": 0.5,
    "nat_gateway": 3,
    "nat_gb": 0.25,
    "public_ipv4": 0.01,
    "alb": 4,
    "alb_unit": 0.5,
    "logs_ingested": 2,
    "logs_kept": 1,
    "custom_metric": 4,
    "alarm_metric": 1,
    "composite_alarm": 3,
    "kms_key": 5,
    "secret": 1,
    "secret_reads": 0,
    "ecr": 10,
}
ASSUMED = {
    "node_disk_gb": 100,
    "nat_gb": 40,
    "load_balancer_units": 2,
    "control_plane_logs_gb": 7,
    "flow_logs_gb": 2,
    "pod_logs_gb": 1,
    "log_compression": 0.5,
    "image_gb": 0.5,
    "releases_kept": 4,
    "weights_kept": 0,
    "busy_share": 0.5,
    "savings_plan_share": 0.75,
    "spot_share": 0.5,
}


@pytest.fixture
def round_prices(tmp_path: Path) -> Prices:
    path = tmp_path / "prices.toml"
    prices = [
        f'[prices."{name}"]\nmoon-1 = {{ usd = {usd}, as_of = 2026-01-0{1 + index % 9} }}'
        for index, (name, usd) in enumerate(ROUND.items())
    ]
    assumptions = [f'[assumptions.{name}]\nvalue = {value}\nwhy = "so"' for name, value in ASSUMED.items()]
    path.write_text("\n".join([*prices, *assumptions]))
    return Prices("moon-1", path)


def test_a_bill_is_what_a_hand_computes(round_prices: Prices) -> None:
    stage = replace(DEV, min_replicas=1, max_replicas=4, zones=2, nat_gateways=1)
    lines = {line.item: (line.minimum, line.maximum) for line in estimate(stage, round_prices)}
    assert lines == {
        "EKS control plane": (1460, 1460),  # 2 × 730 hours
        "Nodes for the gateway": (730, 2920),  # 1 and 4 nodes, one pod each
        "Nodes for the rest": (730, 730),  # 2 nodes at half the price
        "EKS Auto Mode": pytest.approx((146, 365)),  # a tenth of these
        "Disks of the nodes": (150, 300),  # 3 and 6 of 100 GB
        "NAT gateways": (2190, 2190),
        "NAT traffic": (10, 10),
        "Load balancer": (3650, 3650),  # (4 + 2 × 0.5) × 730
        "Public IPv4 addresses": pytest.approx((21.9, 21.9)),  # 1 + 2 addresses
        "KMS": (5, 5),
        "Secrets": (2, 2),
        "Logs, written": (20, 20),  # 7 + 2 + 1 GB
        "Logs, kept": pytest.approx((4.934, 4.934), abs=0.001),  # 10 GB × 30 of 30.4 days × 0.5
        "Alarms": (28, 28),  # 3 × 4 + 10 × 1 + 2 × 3
        "Image repositories": (20, 20),  # 4 × 0.5 GB
    }


def test_a_years_commitment_and_spot_save_what_a_hand_computes(round_prices: Prices) -> None:
    stage = replace(DEV, min_replicas=1, max_replicas=4)
    assert {line.item: (line.minimum, line.maximum) for line in savings(stage, round_prices)} == {
        "Compute Savings Plan": (365, 365),  # a quarter of the 1 + 2 × 0.5 dollars that always run, × 730
        "Spot for the model's nodes": (365, 1460),  # half of 1 and 4 nodes
    }


def test_the_total_is_the_sum_and_a_thousand_generations_follow_from_it(round_prices: Prices) -> None:
    stage = replace(DEV, slots=4)
    report = CostReport(stage=stage, prices=round_prices, seconds=12, lines=estimate(stage, round_prices), savings=[])
    total = report.total()
    assert (total.minimum, total.maximum) == pytest.approx((9167.834, 11726.834), abs=0.001)
    # 730 h × 3,600 s ÷ 12 s = 219,000 generations a slot: 876,000 with 4 slots, 3,504,000 with 4 replicas.
    (full, low, high), (half, low_half, high_half) = report.generations()
    assert (full, half) == (1, 0.5)
    assert (low, high) == pytest.approx((9167.834 / 876, 11726.834 / 3504))
    assert (low_half, high_half) == pytest.approx((2 * 9167.834 / 876, 2 * 11726.834 / 3504))


def two_models(prices: Prices) -> CostReport:
    """Return the report of 1 to 4 nodes with one pod each, and of 1 to 2 nodes for 2 to 4 pods of another model."""
    small = replace(EMBEDDING, slots=5, min_replicas=2, max_replicas=4)
    stage = replace(DEV, more_models=(small,))
    of = {"all-minilm": 3.0}
    return CostReport(
        stage=stage,
        prices=prices,
        seconds=12,
        lines=estimate(stage, prices),
        savings=savings(stage, prices),
        seconds_of=of,
    )


def test_each_model_has_nodes_of_its_own_on_the_bill(round_prices: Prices) -> None:
    report = two_models(round_prices)
    lines = {line.item: (line.minimum, line.maximum) for line in report.lines}
    assert lines["Nodes for moondream"] == (730, 2920)
    assert lines["Nodes for all-minilm"] == (730, 1460)  # two pods a node
    assert lines["EKS Auto Mode"] == pytest.approx((219, 511))  # a tenth of these and of 730 for the rest
    assert lines["Disks of the nodes"] == (200, 400)  # 4 and 8 of 100 GB
    saved = {line.item: (line.minimum, line.maximum) for line in report.savings}
    assert saved["Compute Savings Plan"] == pytest.approx((547.5, 547.5))  # a quarter of 2 + 2 × 0.5 dollars, × 730
    assert saved["Spot for the model's nodes"] == (730, 2190)  # half of 2 and 6 nodes


def test_a_models_generations_bear_its_nodes_part_of_all_that_the_stage_costs(round_prices: Prices) -> None:
    report = two_models(round_prices)
    total = report.total()
    # Half of the fewest nodes are moondream's, and 4 of the 6 at most; a thousand generations as in the test above.
    assert report.generations()[0][1:] == pytest.approx((total.minimum / 2 / 876, total.maximum * 4 / 6 / 3504))
    # 730 h × 3,600 s ÷ 3 s = 876,000 generations a slot: 8,760,000 with 5 slots of 2 replicas.
    _, low, high = report.generations("all-minilm")[0]
    assert (low, high) == pytest.approx((total.minimum / 2 / 8760, total.maximum * 2 / 6 / 17520))
    text = report.as_markdown()
    assert "| US dollars | counted | fewest replicas | most replicas |" in text
    assert (
        f"| 1,000 generations by all-minilm | of 3 s, slots taken 100% of the time | {low:,.2f} | {high:,.2f} |" in text
    )
    assert "`--seconds-per-generation moondream=12`" in text
    [other] = json.loads(report.as_json())["more_models"]
    assert (other["model"], other["replicas"]) == ("all-minilm", {"minimum": 2, "maximum": 4})
    assert other["usd_for_1000_generations"][0]["minimum"] == pytest.approx(low)


def test_without_replicas_there_are_no_nodes_for_them_and_no_generations(round_prices: Prices) -> None:
    stage = replace(DEV, min_replicas=0)
    report = CostReport(stage=stage, prices=round_prices, seconds=12, lines=estimate(stage, round_prices), savings=[])
    assert {line.item: line.minimum for line in report.lines}["Nodes for the gateway"] == 0
    assert report.generations()[0][1] is None
    assert "| 0 replicas |" in report.as_markdown()
    assert per_thousand(100, replicas=0, slots=4, seconds=12, busy=1) is None


def test_a_node_holds_as_many_pods_as_both_its_cpus_and_its_memory_allow() -> None:
    stage = replace(DEV, cpus=3)
    assert pods_per_node(stage, Node(instance_type="x", cpus=4, memory_gib=8)) == 1
    assert pods_per_node(stage, Node(instance_type="x", cpus=16, memory_gib=64)) == 4  # 15.79 ÷ 3.5
    small = Node(instance_type="x", cpus=64, memory_gib=14)
    assert pods_per_node(stage, small) == small.free_mib // stage.pod_mib


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("stage", ON_AWS, ids=lambda stage: stage.name)
@pytest.mark.parametrize("load_balancer", LoadBalancer)
def test_everything_that_a_stage_can_use_is_priced(stage: Stage, region: str, load_balancer: LoadBalancer) -> None:
    lines = estimate(replace(stage, load_balancer=load_balancer), Prices(region))
    assert all(0 < line.minimum <= line.maximum for line in lines)


def test_every_node_type_in_config_is_priced_in_every_region() -> None:
    for stage in ON_AWS:
        for node in (stage.node, stage.platform_node, C7G_XLARGE, C7G_2XLARGE):
            assert set(REGIONS) <= set(TABLE["prices"][node.instance_type])


def test_every_price_has_its_page_its_unit_and_where_and_when_it_was_read() -> None:
    for name, price in TABLE["prices"].items():
        assert price["page"].startswith("https://aws.amazon.com/"), name
        assert price["unit"], name
        for region in REGIONS:
            assert price[region]["usd"] > 0, name
            assert date(2025, 1, 1) < price[region]["as_of"] <= date.today(), name
            assert TABLE["copies"][price[region]["copy"]].startswith("https://"), name


def test_every_assumption_is_in_the_table_with_its_reason() -> None:
    prices = Prices("us-east-1")
    report = CostReport(stage=PROD, prices=prices, seconds=12, lines=estimate(PROD, prices), savings=[])
    text = report.as_markdown()
    for name, entry in TABLE["assumptions"].items():
        assert f"- `{name}` = {entry['value']}: {entry['why']}" in text
    assert "`--seconds-per-generation 12`" in text


def test_the_command_prints_a_table_for_github(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--stage", "prod", "--region", "eu-central-1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "### What `prod` costs in eu-central-1"
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == "| US dollars | counted | 4 replicas | 10 replicas |"
    assert {line.count("|") for line in table} == {5}
    assert any(line.startswith("| **Total a month** |") for line in table)


def test_the_command_prints_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--stage", "dev", "--region", "us-east-1", "--seconds-per-generation", "8.5", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["stage"], found["region"], found["seconds_per_generation"]) == ("dev", "us-east-1", 8.5)
    *lines, total = found["usd_a_month"]
    assert total["minimum"] == pytest.approx(sum(line["minimum"] for line in lines))
    assert found["assumptions"].keys() == TABLE["assumptions"].keys()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--stage", "staging"], "--stage: stage 'staging' doesn't exist: local, dev, prod do"),
        (["--stage", "local"], "stage 'local' isn't for AWS, so it costs nothing there"),
        (
            ["--stage", "dev", "--region", "eu-north-9"],
            "region 'eu-north-9' has no prices in prices.toml: eu-central-1, us-east-1 have",
        ),
        (
            ["--stage", "dev", "--seconds-per-generation", "0"],
            "--seconds-per-generation: '0' is not a number of seconds from 0.001 to 86400",
        ),
        (
            ["--stage", "dev", "--seconds-per-generation", "llava=3"],
            "stage dev has no model 'llava': it serves moondream",
        ),
        (
            ["--stage", "dev", "--seconds-per-generation", "moondream=0"],
            "--seconds-per-generation: '0' is not a number of seconds from 0.001 to 86400",
        ),
        (
            ["--stage", "dev", "--seconds-per-generation", "fast"],
            "--seconds-per-generation: 'fast' is not a number of seconds from 0.001 to 86400",
        ),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(["--region", "us-east-1", *arguments])
    except SystemExit as stopped:  # argparse's own
        code = int(stopped.code or 0)
    assert (code, capsys.readouterr().err) == (2, f"sluice: {sentence}\n")


def test_the_region_is_asked_for_where_neither_cdk_json_nor_the_command_has_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cdk.json"
    monkeypatch.setattr("command_line.CDK_JSON", path)
    path.write_text('{"context": {"region": ""}}')
    assert main(["--stage", "dev"]) == 2
    assert capsys.readouterr().err == "sluice: region is missing: set it in cdk.json or with --region\n"
    path.write_text('{"context": {"region": "us-east-1"}}')
    main(["--stage", "dev"])
    assert "What `dev` costs in us-east-1" in capsys.readouterr().out


def test_a_node_type_without_a_price_is_named() -> None:
    stage = replace(DEV, node=Node(instance_type="m9z.4xlarge", cpus=16, memory_gib=64))
    with pytest.raises(ValueError, match=r"^m9z.4xlarge has no price for us-east-1 in prices.toml: add it"):
        estimate(stage, Prices("us-east-1"))
