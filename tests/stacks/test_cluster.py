import json
from dataclasses import replace
from typing import Any, cast

import pytest
from aws_cdk import App, Stack

from app import build
from config import C7G_2XLARGE, DEV, LOCAL, MODEL_TAINT, PROD, ConfigError, Stage
from stacks.cluster import SDK_FUNCTION
from stacks.node_pools import NODE_CLASS, cluster_manifests
from tests.support.aws import REGION
from tests.support.several_models import TWO_MODELS, TWO_NODES
from tests.support.synth import ADMINS, OWNER, Json, cdk_context, empty_app, resources_of, synthesise, text

EACH = pytest.mark.parametrize("stage", [DEV, PROD], ids=lambda stage: stage.name)
OPEN = replace(DEV, api_allowed_cidrs=("203.0.113.0/24", "198.51.100.7/32"))
POLICY = "arn:<AWS::Partition>:iam::aws:policy"
CALLS = {"Create": True, "Delete": False}
CLUSTER_ADMIN = "arn:<AWS::Partition>:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"


def cluster(stage: Stage) -> Json:
    return synthesise(stage).properties("cluster", "AWS::EKS::Cluster")


def named(stage: Stage, reference: Any) -> Json:
    """Return the resource of the cluster's stack that a Ref or Fn::GetAtt is about."""
    name = reference["Ref"] if "Ref" in reference else reference["Fn::GetAtt"][0]
    return dict(synthesise(stage).stacks()["cluster"]["Resources"][name])


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def policies(role: Json) -> list[str]:
    return [text(each) for each in role["Properties"]["ManagedPolicyArns"]]


@EACH
def test_it_is_an_auto_mode_cluster_of_the_stages_version(stage: Stage) -> None:
    properties = cluster(stage)
    assert properties["Name"] == f"sluice-{stage.name}"
    assert properties["Version"] == stage.kubernetes_version
    assert properties["ComputeConfig"]["Enabled"] is True
    assert properties["BootstrapSelfManagedAddons"] is False
    assert properties["StorageConfig"] == {"BlockStorage": {"Enabled": True}}
    network = properties["KubernetesNetworkConfig"]
    assert network["ElasticLoadBalancing"] == {"Enabled": True}
    assert network["ServiceIpv4Cidr"] == stage.service_cidr


@EACH
def test_its_nodes_and_its_api_are_in_private_subnets(stage: Stage) -> None:
    ids = [each["Fn::GetStackOutput"]["OutputName"] for each in cluster(stage)["ResourcesVpcConfig"]["SubnetIds"]]
    assert len(ids) == stage.zones
    assert all("privateSubnet" in each for each in ids)


@EACH
def test_nobody_outside_the_vpc_reaches_the_api_unless_the_stage_says_who(stage: Stage) -> None:
    access = cluster(stage)["ResourcesVpcConfig"]
    assert (access["EndpointPrivateAccess"], access["EndpointPublicAccess"]) == (True, False)
    assert "PublicAccessCidrs" not in access


def test_with_an_allow_list_its_networks_reach_the_api_and_the_vpc_does_still() -> None:
    access = cluster(OPEN)["ResourcesVpcConfig"]
    assert (access["EndpointPrivateAccess"], access["EndpointPublicAccess"]) == (True, True)
    assert access["PublicAccessCidrs"] == list(OPEN.api_allowed_cidrs)


def test_cdk_json_may_allow_networks_to_every_stage() -> None:
    owner = replace(OWNER, api_allowed_cidrs=("198.51.100.7/32", "192.0.2.0/24"))
    app = App(context=cdk_context(), builtin_cloud_formation_validation=False)
    build(app, stage=OPEN, context=owner)
    (stack,) = [each for each in app.node.children if each.node.id == "sluice-dev-cluster"]
    (found,) = resources_of(cast(Stack, stack), "AWS::EKS::Cluster")
    access = found["Properties"]["ResourcesVpcConfig"]
    assert access["PublicAccessCidrs"] == ["203.0.113.0/24", "198.51.100.7/32", "192.0.2.0/24"]


def test_what_is_no_network_in_cdk_json_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"api_allowed_cidrs has '10\.0\.0\.1/8', which is no network"):
        build(empty_app(), stage=DEV, context=replace(OWNER, api_allowed_cidrs=("10.0.0.1/8",)))


@EACH
def test_people_in_the_vpc_reach_the_api_and_nothing_else_of_the_control_plane(stage: Stage) -> None:
    (group,) = synthesise(stage).resources("cluster", "AWS::EC2::SecurityGroup")
    (rule,) = group["Properties"]["SecurityGroupIngress"]
    assert (rule["CidrIp"], rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == (stage.vpc_cidr, "tcp", 443, 443)
    assert text(cluster(stage)["ResourcesVpcConfig"]["SecurityGroupIds"][0]).startswith("<ClusterControlPlane")


@pytest.mark.parametrize("stage", [DEV, OPEN], ids=["private", "allow-list"])
def test_the_kubectl_provider_reaches_the_private_api_from_inside_the_vpc(stage: Stage) -> None:
    functions = synthesise(stage).resources("cluster", "AWS::Lambda::Function")
    assert len(functions) == 2
    for each in functions:
        vpc = each["Properties"]["VpcConfig"]
        assert vpc["SubnetIds"] == cluster(stage)["ResourcesVpcConfig"]["SubnetIds"]
        assert [text(group) for group in vpc["SecurityGroupIds"]] == ["<ClusterEB0386A7.ClusterSecurityGroupId>"]


@EACH
def test_secrets_are_encrypted_with_a_key_that_rotates(stage: Stage) -> None:
    (encryption,) = cluster(stage)["EncryptionConfig"]
    assert encryption["Resources"] == ["secrets"]
    key = named(stage, encryption["Provider"]["KeyArn"])
    assert key["Type"] == "AWS::KMS::Key"
    assert key["Properties"]["EnableKeyRotation"] is True
    assert key["DeletionPolicy"] == "Delete"


@EACH
def test_all_five_logs_of_the_control_plane_go_to_a_group_of_ours(stage: Stage) -> None:
    kinds = {each["Type"] for each in cluster(stage)["Logging"]["ClusterLogging"]["EnabledTypes"]}
    assert kinds == {"api", "audit", "authenticator", "controllerManager", "scheduler"}
    resources = synthesise(stage).stacks()["cluster"]["Resources"]
    name = f"/aws/eks/sluice-{stage.name}/cluster"
    (group,) = [key for key, each in resources.items() if each.get("Properties", {}).get("LogGroupName") == name]
    (depends,) = [each["DependsOn"] for each in resources.values() if each["Type"] == "AWS::EKS::Cluster"]
    assert group in depends


@EACH
def test_access_is_by_entries_for_the_admins_and_the_kubectl_provider_and_for_nobody_else(stage: Stage) -> None:
    assert cluster(stage)["AccessConfig"] == {
        "AuthenticationMode": "API",
        "BootstrapClusterCreatorAdminPermissions": False,
    }
    entries = [each["Properties"] for each in synthesise(stage).resources("cluster", "AWS::EKS::AccessEntry")]
    people = [each["PrincipalArn"] for each in entries if isinstance(each["PrincipalArn"], str)]
    assert sorted(people) == sorted(ADMINS)
    (provider,) = [each["PrincipalArn"] for each in entries if not isinstance(each["PrincipalArn"], str)]
    assert named(stage, provider)["Properties"]["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {
        "Service": "lambda.amazonaws.com"
    }
    for each in entries:
        (policy,) = each["AccessPolicies"]
        assert text(policy["PolicyArn"]) == CLUSTER_ADMIN


@EACH
def test_the_kubectl_provider_may_look_at_this_cluster_only(stage: Stage) -> None:
    statements = [
        statement
        for each in synthesise(stage).resources("cluster", "AWS::IAM::Policy")
        for statement in each["Properties"]["PolicyDocument"]["Statement"]
        if "eks:Describe" in json.dumps(statement["Action"])
    ]
    assert [(each["Action"], text(each["Resource"])) for each in statements] == [
        ("eks:DescribeCluster", "<ClusterEB0386A7.Arn>")
    ]


@EACH
def test_a_node_may_join_and_pull_images_and_nothing_else(stage: Stage) -> None:
    compute = cluster(stage)["ComputeConfig"]
    role = named(stage, compute["NodeRoleArn"])
    assert policies(role) == [
        f"{POLICY}/AmazonEKSWorkerNodeMinimalPolicy",
        f"{POLICY}/AmazonEC2ContainerRegistryPullOnly",
    ]
    (trust,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "ec2.amazonaws.com"}


@EACH
def test_every_node_is_auto_modes_so_that_imdsv2_with_one_hop_is_never_ours_to_weaken(stage: Stage) -> None:
    kinds = {each["Type"] for each in synthesise(stage).stacks()["cluster"]["Resources"].values()}
    own = (
        "AWS::EC2::Instance",
        "AWS::EC2::LaunchTemplate",
        "AWS::EKS::Nodegroup",
        "AWS::AutoScaling::AutoScalingGroup",
    )
    assert not kinds & set(own)
    assert cluster(stage)["ComputeConfig"]["NodePools"] == ["system"]
    assert {each["spec"]["template"]["spec"]["nodeClassRef"]["name"] for each in pools(stage)} == {NODE_CLASS}


def test_what_protects_the_cluster_comes_last_so_that_a_first_deployment_that_fails_can_be_rolled_back() -> None:
    assert "DeletionProtection" not in cluster(PROD)
    resources = synthesise(PROD).stacks()["cluster"]["Resources"]
    (name,) = [name for name, each in resources.items() if each["Type"] == "Custom::AWS"]
    waits_for = {resources[other]["Type"] for other in resources[name]["DependsOn"]}
    assert "AWS::EKS::Addon" in waits_for
    assert not [other for other, each in resources.items() if name in each.get("DependsOn", [])]
    calls = {key: json.loads(text(value)) for key, value in resources[name]["Properties"].items() if key in CALLS}
    for when, protected in CALLS.items():
        assert (calls[when]["service"], calls[when]["action"]) == ("EKS", "updateClusterConfig")
        assert calls[when]["parameters"]["deletionProtection"] is protected
    assert synthesise(DEV).resources("cluster", "Custom::AWS") == []


def test_what_protects_the_cluster_may_change_its_configuration_and_nothing_else() -> None:
    resources = synthesise(PROD).stacks()["cluster"]["Resources"]
    (name,) = [name for name in resources if name.startswith(f"{SDK_FUNCTION}ServiceRole")]
    policies = [each["Properties"] for each in synthesise(PROD).resources("cluster", "AWS::IAM::Policy")]
    found = [each["PolicyDocument"]["Statement"] for each in policies if {"Ref": name} in each["Roles"]]
    assert [(each["Action"], text(each["Resource"])) for [each] in found] == [
        ("eks:UpdateClusterConfig", "<ClusterEB0386A7.Arn>")
    ]


@EACH
def test_it_never_goes_into_extended_support_which_costs_six_times_as_much(stage: Stage) -> None:
    assert cluster(stage)["UpgradePolicy"] == {"SupportType": "STANDARD"}


@EACH
def test_metrics_server_is_an_add_on_that_waits_for_nodes_and_goes_with_the_cluster(stage: Stage) -> None:
    (addon,) = synthesise(stage).resources("cluster", "AWS::EKS::Addon")
    assert addon["Properties"]["AddonName"] == "metrics-server"
    assert addon["Properties"]["PreserveOnDelete"] is False
    assert json.loads(addon["Properties"]["ConfigurationValues"]) == {
        "nodeSelector": {"karpenter.sh/nodepool": "platform"}  # not on `system`, where it would start nodes for itself
    }
    assert [named(stage, {"Ref": name})["Type"] for name in addon["DependsOn"]] == [
        "Custom::AWSCDK-EKS-KubernetesResource"
    ]


def nodes(stage: Stage) -> Json:
    """Return what is applied to the cluster, besides what ships its logs."""
    applied = synthesise(stage).resources("cluster", "Custom::AWSCDK-EKS-KubernetesResource")
    (found,) = [each["Properties"] for each in applied if "NodePool" in text(each["Properties"]["Manifest"])]
    return dict(found)


@EACH
def test_the_cluster_gets_the_stages_node_pools(stage: Stage) -> None:
    (_, parts) = nodes(stage)["Manifest"]["Fn::Join"]
    manifest = json.loads("".join(part if isinstance(part, str) else text(part).replace('"', "") for part in parts))
    for each in manifest:
        del each["metadata"]["labels"]  # the CDK's own, by which it deletes what is no longer there
    (class_,) = [each["spec"] for each in manifest if each["kind"] == "NodeClass"]
    subnets = [each["id"] for each in class_["subnetSelectorTerms"]]
    assert len(subnets) == stage.zones
    assert all("privateSubnet" in each for each in subnets)
    assert class_["role"].startswith("<NodeRole")
    assert class_["securityGroupSelectorTerms"] == [{"id": "<ClusterEB0386A7.ClusterSecurityGroupId>"}]
    group = class_["securityGroupSelectorTerms"][0]["id"]
    assert manifest == cluster_manifests(stage, role=class_["role"], subnets=subnets, group=group)


@EACH
def test_what_a_failed_deployment_left_of_the_nodes_objects_is_no_obstacle(stage: Stage) -> None:
    assert nodes(stage)["Overwrite"] is True


@EACH
def test_the_line_for_kubectl_is_an_output(stage: Stage) -> None:
    line = text(synthesise(stage).outputs("cluster")["UpdateKubeconfig"])
    assert line == f"aws eks update-kubeconfig --name sluice-{stage.name} --region {REGION}"


def manifests(stage: Stage) -> list[Json]:
    return cluster_manifests(stage, role="nodes", subnets=["subnet-1"], group="sg-1")


def pools(stage: Stage) -> list[Json]:
    return [each for each in manifests(stage) if each["kind"] == "NodePool"]


def pool(stage: Stage, name: str) -> Json:
    (found,) = [each["spec"] for each in pools(stage) if each["metadata"]["name"] == name]
    return dict(found)


def requirements(spec: Json) -> dict[str, list[str]]:
    return {
        each["key"]: each["values"] for each in spec["template"]["spec"]["requirements"] if each["operator"] == "In"
    }


@EACH
@pytest.mark.parametrize("name", ["sluice", "platform"])
def test_nodes_are_of_the_one_instance_type_that_the_stages_numbers_were_made_for(stage: Stage, name: str) -> None:
    node = stage.node if name == "sluice" else stage.platform_node
    assert requirements(pool(stage, name)) == {
        "karpenter.sh/capacity-type": ["on-demand"],
        "kubernetes.io/arch": ["arm64" if node.arm64 else "amd64"],
        "node.kubernetes.io/instance-type": [node.instance_type],
    }


def test_a_stage_may_run_the_model_on_graviton() -> None:
    arm64 = replace(PROD, node=C7G_2XLARGE)
    assert requirements(pool(arm64, "sluice"))["kubernetes.io/arch"] == ["arm64"]
    assert requirements(pool(arm64, "sluice"))["node.kubernetes.io/instance-type"] == ["c7g.2xlarge"]
    synthesised = json.dumps(synthesise(arm64).stacks()["cluster"])
    assert "c7g.2xlarge" in synthesised
    assert "c7i" not in synthesised


@EACH
def test_every_replica_finds_a_node_and_the_bill_has_a_limit(stage: Stage) -> None:
    nodes = int(pool(stage, "sluice")["limits"]["cpu"]) / stage.node.cpus
    assert stage.max_replicas < nodes <= 1.5 * stage.max_replicas
    others = int(pool(stage, "platform")["limits"]["cpu"]) / stage.platform_node.cpus
    assert others == stage.proxy_replicas + 1


@EACH
def test_only_what_generates_runs_on_the_models_nodes_so_that_they_empty(stage: Stage) -> None:
    (taint,) = pool(stage, "sluice")["template"]["spec"]["taints"]
    assert taint == {"key": MODEL_TAINT, "effect": "NoSchedule"}
    assert "taints" not in pool(stage, "platform")["template"]["spec"]
    assert pool(stage, "sluice")["disruption"] == {"consolidationPolicy": "WhenEmpty", "consolidateAfter": "5m"}


@EACH
def test_platform_pods_move_together_one_node_at_a_time(stage: Stage) -> None:
    disruption = pool(stage, "platform")["disruption"]
    assert disruption["consolidationPolicy"] == "WhenEmptyOrUnderutilized"
    assert disruption["budgets"] == [{"nodes": "1"}]


@EACH
def test_nodes_carry_the_stages_tags_and_the_cluster_may_set_them(stage: Stage) -> None:
    (nodes,) = [each["spec"] for each in manifests(stage) if each["kind"] == "NodeClass"]
    assert nodes["tags"] == {"project": "sluice", "stage": stage.name}
    statements = [
        statement
        for each in synthesise(stage).resources("cluster", "AWS::IAM::Policy")
        for statement in each["Properties"]["PolicyDocument"]["Statement"]
        if "aws:RequestTag/eks:eks-cluster-name" in json.dumps(statement)
    ]
    allowed = {action for each in statements for action in as_list(each["Action"])}
    assert {"ec2:CreateFleet", "ec2:CreateNetworkInterface", "elasticloadbalancing:CreateLoadBalancer"} <= allowed
    for each in statements:
        own = each["Condition"]["StringEquals"]["aws:RequestTag/eks:eks-cluster-name"]
        assert own == "${aws:PrincipalTag/eks:eks-cluster-name}"


@EACH
def test_a_node_is_drained_for_longer_than_a_pod_needs_and_shorter_than_cdk_destroy_waits(stage: Stage) -> None:
    for each in pools(stage):
        drain = each["spec"]["template"]["spec"]["terminationGracePeriod"]
        longest = max(stage.grace_period, stage.proxy_grace_period)
        assert longest < 60 * int(drain.removesuffix("m")) < 15 * 60


@EACH
def test_network_policies_are_enforced(stage: Stage) -> None:
    (switch,) = [each for each in manifests(stage) if each["kind"] == "ConfigMap"]
    assert (switch["metadata"]["namespace"], switch["metadata"]["name"]) == ("kube-system", "amazon-vpc-cni")
    assert switch["data"] == {"enable-network-policy-controller": "true"}


def test_each_instance_type_of_the_models_has_a_pool_as_large_as_its_models_need() -> None:
    small, large = pool(TWO_NODES, "sluice-c7i-xlarge"), pool(TWO_NODES, "sluice")
    assert requirements(small)["node.kubernetes.io/instance-type"] == ["c7i.xlarge"]
    assert small["template"]["spec"]["taints"] == large["template"]["spec"]["taints"]
    assert (small["limits"]["cpu"], large["limits"]["cpu"]) == (str(3 * 4), str(13 * 8))
    assert pool(TWO_MODELS, "sluice")["limits"]["cpu"] == str((5 + 3) * 4)  # of one type


def test_a_stage_without_nodes_on_aws_is_refused() -> None:
    with pytest.raises(ConfigError, match="stage 'local' isn't for AWS"):
        manifests(LOCAL)
