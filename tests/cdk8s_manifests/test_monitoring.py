import json
import re
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from cdk8s_manifests.dashboard import dashboard
from config import PROD, Stage
from service import create_models
from service.settings import Settings
from tests.support.rendered import find, objects
from tests.support.several_models import TWO_NODES

WATCHED = replace(PROD, monitoring=True)


def queries() -> list[str]:
    return [target["expr"] for panel in json.loads(dashboard())["panels"] for target in panel["targets"]]


def test_the_dashboard_asks_for_nothing_that_the_gateway_does_not_tell() -> None:
    from prometheus_client import generate_latest

    registry = create_models(Settings()).metrics.registry
    families = text_string_to_metric_families(generate_latest(registry).decode())
    told = {sample.name for family in families for sample in family.samples}
    # A counter or histogram with labels has no sample before its first event.
    told |= {f"{family.name}_total" for family in registry.collect() if family.type == "counter"}
    asked = set(re.findall(r"sluice_\w+", " ".join(queries())))
    assert asked
    assert asked <= told


def test_the_dashboard_has_a_place_for_every_panel() -> None:
    panels = json.loads(dashboard())["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels})


def test_the_dashboard_shows_each_model_and_can_be_narrowed_to_some() -> None:
    chosen = json.loads(dashboard())["templating"]["list"][1]
    assert (chosen["name"], chosen["query"]) == ("model", "label_values(sluice_slots, model)")
    for query in queries():
        if "haproxy" in query:
            assert 'proxy=~"generate(-.*)?"' in query
            assert "by (proxy" in query
        elif not re.search("responses|cancelled", query):  # which are about no model
            assert 'model=~"$model"' in query
            assert re.search(r"by \([^)]*model", query)


def test_grafana_finds_the_dashboard_by_its_label() -> None:
    config = find(WATCHED, "ConfigMap", "dashboard")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert config["data"] == {"sluice.json": dashboard()}


def test_prometheus_reads_gateways_and_proxies_by_the_ports_of_their_services() -> None:
    spec = find(WATCHED, "ServiceMonitor", "sluice")["spec"]

    def services(port: str, stage: Stage = WATCHED) -> set[str]:
        wanted = spec["selector"]["matchLabels"].items()
        return {
            obj["metadata"]["name"]
            for obj in objects(stage)
            if obj["kind"] == "Service"
            and wanted <= obj["metadata"]["labels"].items()
            and port in [each["name"] for each in obj["spec"]["ports"]]
        }

    assert [services(endpoint["port"]) for endpoint in spec["endpoints"]] == [{"pods", "proxies"}, {"proxies"}]
    assert services("private", replace(TWO_NODES, monitoring=True)) == {"pods", "pods-all-minilm", "proxies"}
    assert {endpoint["path"] for endpoint in spec["endpoints"]} == {"/metrics"}
