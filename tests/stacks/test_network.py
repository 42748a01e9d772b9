from dataclasses import replace
from ipaddress import IPv4Network
from itertools import combinations

import pytest

from config import DEV, PROD, Stage
from stacks.network import Network
from tests.support.synth import Json, empty_app, resources_of, synthesise

EACH = pytest.mark.parametrize("stage", [DEV, PROD], ids=lambda stage: stage.name)


def subnets(stage: Stage, kind: str) -> dict[str, Json]:
    """Return the private or public subnets by their logical ids."""
    return {
        name: each["Properties"]
        for stack, name, each in synthesise(stage).everything()
        if each["Type"] == "AWS::EC2::Subnet"
        and {"Key": "aws-cdk:subnet-name", "Value": kind} in each["Properties"]["Tags"]
    }


def default_routes(stage: Stage) -> dict[str, Json]:
    """Return the way out to the Internet of each subnet, by the subnet's logical id."""
    links = synthesise(stage).resources("network", "AWS::EC2::SubnetRouteTableAssociation")
    tables = {each["Properties"]["RouteTableId"]["Ref"]: each["Properties"]["SubnetId"]["Ref"] for each in links}
    routes = [each["Properties"] for each in synthesise(stage).resources("network", "AWS::EC2::Route")]
    return {tables[each["RouteTableId"]["Ref"]]: each for each in routes}


@EACH
def test_every_zone_of_the_stage_has_a_private_and_a_public_subnet(stage: Stage) -> None:
    zones = [{"Fn::Select": [index, {"Fn::GetAZs": ""}]} for index in range(stage.zones)]
    for kind in ("private", "public"):
        assert [each["AvailabilityZone"] for each in subnets(stage, kind).values()] == zones
    assert (DEV.zones, PROD.zones) == (2, 3)


@EACH
def test_nothing_gets_a_public_address_by_being_put_into_a_subnet(stage: Stage) -> None:
    for each in synthesise(stage).resources("network", "AWS::EC2::Subnet"):
        assert each["Properties"]["MapPublicIpOnLaunch"] is False


@EACH
def test_private_subnets_reach_the_internet_through_a_nat_gateway_only(stage: Stage) -> None:
    gateways = synthesise(stage).resources("network", "AWS::EC2::NatGateway")
    assert len(gateways) == stage.nat_gateways
    assert {each["Properties"]["SubnetId"]["Ref"] for each in gateways} <= set(subnets(stage, "public"))
    routes = default_routes(stage)
    used = {routes[name]["NatGatewayId"]["Ref"] for name in subnets(stage, "private")}
    assert len(used) == stage.nat_gateways
    assert not [name for name in subnets(stage, "private") if "GatewayId" in routes[name]]


@EACH
def test_all_traffic_is_logged(stage: Stage) -> None:
    log = synthesise(stage).properties("network", "AWS::EC2::FlowLog")
    assert (log["ResourceType"], log["TrafficType"]) == ("VPC", "ALL")
    group = synthesise(stage).stacks()["network"]["Resources"][log["LogGroupName"]["Ref"]]
    assert group["Type"] == "AWS::Logs::LogGroup"


@EACH
def test_the_only_endpoint_is_the_one_that_costs_nothing_and_all_private_subnets_use_it(stage: Stage) -> None:
    endpoint = synthesise(stage).properties("network", "AWS::EC2::VPCEndpoint")
    assert endpoint["VpcEndpointType"] == "Gateway"
    assert endpoint["ServiceName"] == {"Fn::Join": ["", ["com.amazonaws.", {"Ref": "AWS::Region"}, ".s3"]]}
    tables = {default_routes(stage)[name]["RouteTableId"]["Ref"] for name in subnets(stage, "private")}
    assert tables <= {table["Ref"] for table in endpoint["RouteTableIds"]}


@EACH
def test_it_takes_no_lambda(stage: Stage) -> None:
    kinds = {each["Type"] for each in synthesise(stage).stacks()["network"]["Resources"].values()}
    assert not [kind for kind in kinds if kind.startswith(("AWS::Lambda", "Custom::"))]


def test_names_resolve_inside_as_the_private_api_needs() -> None:
    vpc = synthesise(DEV).properties("network", "AWS::EC2::VPC")
    assert vpc["EnableDnsSupport"] is vpc["EnableDnsHostnames"] is True


@pytest.mark.parametrize("cidr", ["10.1.0.0/16", "10.9.0.0/20"])
def test_subnets_lie_in_the_stages_network_apart_with_room_for_pods(cidr: str) -> None:
    stage = replace(PROD, vpc_cidr=cidr)
    found = resources_of(Network(empty_app(), "network", stage=stage), "AWS::EC2::Subnet")
    networks = [IPv4Network(each["Properties"]["CidrBlock"]) for each in found]
    assert len(networks) == 6
    assert all(network.subnet_of(IPv4Network(cidr)) for network in networks)
    assert not [pair for pair in combinations(networks, 2) if pair[0].overlaps(pair[1])]
    assert sorted(network.num_addresses for network in networks)[3] >= 1024
