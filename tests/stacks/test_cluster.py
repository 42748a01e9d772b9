import json
from dataclasses import replace
from typing import Any

import pytest

from config import DEV, LOCAL, PROD, ConfigError, Stage
from stacks.node_pools import cluster_manifests
from tests.support.synth import ADMINS, Json, synthesise, text

EACH = pytest.mark.parametrize("stage", [DEV, PROD], ids=lambda stage: stage.name)
OPEN = replace(DEV, api_allowed_cidrs=("203.0.113.0/24", "198.51.100.7/32"))
POLICY = "arn:<AWS::Partition>:iam::aws:policy"
CLUSTER_ADMIN = "arn:<AWS::Partition>:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"


def cluster(stage: Stage) -> Json:
    return synthesise(stage).properties("cluster", "AWS::EKS::Cluster")


def named(stage: Stage, reference: Any) -> Json:
    """Return the resource of the cluster's stack that a Ref or Fn::GetAtt is about."""
    name = reference["Ref"] if "Ref" in reference else reference["Fn::GetAtt"][0]
    return dict(synthesise(stage).stacks()["cluster"]["Resources"][name])


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
        if "eks:" in json.dumps(statement["Action"])
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
    kinds = {each["Type"] for _, _, each in synthesise(stage).everything()}
    own = (
        "AWS::EC2::Instance",
        "AWS::EC2::LaunchTemplate",
        "AWS::EKS::Nodegroup",
        "AWS::AutoScaling::AutoScalingGroup",
    )
    assert not kinds & set(own)
    assert cluster(stage)["ComputeConfig"]["NodePools"] == ["system"]
    assert {each["spec"]["template"]["spec"]["nodeClassRef"]["name"] for each in pools(stage)} == {"default"}


@EACH
def test_it_is_deleted_only_where_the_stage_does_not_protect_it(stage: Stage) -> None:
    assert cluster(stage)["DeletionProtection"] is stage.deletion_protection
    assert (DEV.deletion_protection, PROD.deletion_protection) == (False, True)


@EACH
def test_it_never_goes_into_extended_support_which_costs_six_times_as_much(stage: Stage) -> None:
    assert cluster(stage)["UpgradePolicy"] == {"SupportType": "STANDARD"}


@EACH
def test_metrics_server_is_an_add_on_that_waits_for_nodes_and_goes_with_the_cluster(stage: Stage) -> None:
    (addon,) = synthesise(stage).resources("cluster", "AWS::EKS::Addon")
    assert addon["Properties"]["AddonName"] == "metrics-server"
    assert addon["Properties"]["PreserveOnDelete"] is False
    assert [named(stage, {"Ref": name})["Type"] for name in addon["DependsOn"]] == [
        "Custom::AWSCDK-EKS-KubernetesResource"
    ]


@EACH
def test_the_cluster_gets_the_stages_node_pools(stage: Stage) -> None:
    manifest = json.loads(synthesise(stage).properties("cluster", "Custom::AWSCDK-EKS-KubernetesResource")["Manifest"])
    for each in manifest:
        del each["metadata"]["labels"]  # the CDK's own, by which it deletes what is no longer there
    assert manifest == cluster_manifests(stage)


@EACH
def test_the_line_for_kubectl_is_an_output(stage: Stage) -> None:
    line = text(synthesise(stage).outputs("cluster")["UpdateKubeconfig"])
    assert line == f"aws eks update-kubeconfig --name sluice-{stage.name} --region <AWS::Region>"


def pools(stage: Stage) -> list[Json]:
    return [each for each in cluster_manifests(stage) if each["kind"] == "NodePool"]


def pool(stage: Stage, name: str) -> Json:
    (found,) = [each["spec"] for each in pools(stage) if each["metadata"]["name"] == name]
    return dict(found)


def requirements(spec: Json) -> dict[str, list[str]]:
    return {
        each["key"]: each["values"] for each in spec["template"]["spec"]["requirements"] if each["operator"] == "In"
    }


@EACH
def test_pods_run_on_the_instance_type_that_their_numbers_were_made_for(stage: Stage) -> None:
    assert requirements(pool(stage, "sluice")) == {
        "karpenter.sh/capacity-type": ["on-demand"],
        "node.kubernetes.io/instance-type": [stage.node.instance_type],
    }


@EACH
def test_every_replica_finds_a_node_and_the_bill_has_a_limit(stage: Stage) -> None:
    nodes = int(pool(stage, "sluice")["limits"]["cpu"]) / stage.node.cpus
    assert stage.max_replicas + 2 <= nodes <= 2 * stage.max_replicas


def test_gpu_and_arm64_nodes_are_there_on_request_only() -> None:
    assert [each["metadata"]["name"] for each in pools(DEV)] == ["sluice"]
    both = replace(DEV, gpu_nodes=True, arm64_nodes=True)
    assert [each["metadata"]["name"] for each in pools(both)] == ["sluice", "sluice-arm64", "sluice-gpu"]


def test_an_arm64_node_is_of_the_same_size_and_preferred() -> None:
    spec = pool(replace(PROD, arm64_nodes=True), "sluice-arm64")
    wanted = requirements(spec)
    assert wanted["kubernetes.io/arch"] == ["arm64"]
    assert wanted["eks.amazonaws.com/instance-cpu"] == ["8"]
    assert wanted["eks.amazonaws.com/instance-memory"] == ["16384"]
    assert spec["weight"] > pool(PROD, "sluice").get("weight", 0)


def test_a_gpu_node_runs_only_pods_that_want_one() -> None:
    spec = pool(replace(PROD, gpu_nodes=True), "sluice-gpu")
    assert spec["template"]["spec"]["taints"] == [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]
    assert spec["limits"] == {"nvidia.com/gpu": str(PROD.max_replicas)}


@EACH
def test_a_node_is_drained_for_longer_than_a_pod_needs_and_shorter_than_cdk_destroy_waits(stage: Stage) -> None:
    for each in pools(stage):
        drain = each["spec"]["template"]["spec"]["terminationGracePeriod"]
        longest = max(stage.grace_period, stage.proxy_grace_period)
        assert longest < 60 * int(drain.removesuffix("m")) < 15 * 60


@EACH
def test_an_answer_is_not_interrupted_to_save_a_node(stage: Stage) -> None:
    assert {each["spec"]["disruption"]["consolidationPolicy"] for each in pools(stage)} == {"WhenEmpty"}


@EACH
def test_network_policies_are_enforced(stage: Stage) -> None:
    (switch,) = [each for each in cluster_manifests(stage) if each["kind"] == "ConfigMap"]
    assert (switch["metadata"]["namespace"], switch["metadata"]["name"]) == ("kube-system", "amazon-vpc-cni")
    assert switch["data"] == {"enable-network-policy-controller": "true"}


def test_a_stage_without_nodes_on_aws_is_refused() -> None:
    with pytest.raises(ConfigError, match="stage 'local' isn't for AWS"):
        cluster_manifests(LOCAL)
