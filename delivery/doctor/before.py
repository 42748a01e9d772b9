"""What would make the deployment of a stage fail, or leave it without nodes."""

from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError

from botocore.exceptions import ClientError, NoCredentialsError  # type: ignore[import-untyped]

from config import IMAGE_REPOSITORY, PROXY_REPOSITORY, WEIGHTS_REPOSITORY
from delivery.doctor.check import Check, Patient, ask_github, get_json
from delivery.signing import public_keys

BOOTSTRAP_VERSION = 6  # what the CDK's templates ask for
BOOTSTRAP_PARAMETER = "/cdk-bootstrap/hnb659fds/version"
ISSUER = "token.actions.githubusercontent.com"
# Running on-demand standard instances, and Elastic IPs: docs.aws.amazon.com/general/latest/gr/ec2-service.html
VCPU_QUOTA, ADDRESS_QUOTA = "L-1216C47A", "L-0263D0A3"
ACCESS_VCPUS = 2  # of the instance of make access
# Where EKS can't have a control plane: docs.aws.amazon.com/eks/latest/userguide/network-reqs.html
ZONES_WITHOUT_EKS = {"use1-az3", "usw1-az2", "cac1-az3"}


def credentials(patient: Patient) -> Iterator[str]:
    """Somebody is logged in, to the account of cdk.json."""
    try:
        given = patient.client("sts").get_caller_identity()["Account"]
    except NoCredentialsError:
        yield "there are no AWS credentials: run aws configure or aws sso login, or set AWS_PROFILE"
        return
    if given != patient.context.account:
        yield (
            f"the credentials are for account {given}, and cdk.json has account={patient.context.account}: use other "
            "credentials, or correct it"
        )


def bootstrap(patient: Patient) -> Iterator[str]:
    """`cdk bootstrap` has run, with a version that is new enough."""
    command = "run npx cdk bootstrap -c stage=" + patient.stage.name
    try:
        found = patient.client("ssm").get_parameter(Name=BOOTSTRAP_PARAMETER)["Parameter"]["Value"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ParameterNotFound":
            raise
        yield f"the account has no bootstrap stack in {patient.context.region}: {command}"
        return
    if int(found) < BOOTSTRAP_VERSION:
        yield f"the bootstrap stack has version {found}, and {BOOTSTRAP_VERSION} is needed: {command}"


def stacks(patient: Patient) -> Iterator[str]:
    """No stack of an earlier deployment is stuck."""
    for name, status in deployed(patient).items():
        if status.endswith("_FAILED"):
            yield f"stack {name} is {status}: see When a deployment fails half-way in docs/operations.md"


def quotas(patient: Patient) -> Iterator[str]:
    """There are vCPUs for all nodes, and addresses for the NAT gateways."""
    stage, quota = patient.stage, patient.client("service-quotas").get_service_quota
    ask = "aws service-quotas request-service-quota-increase --service-code ec2 --quota-code"
    needed, allowed = stage.vcpus + ACCESS_VCPUS, quota(ServiceCode="ec2", QuotaCode=VCPU_QUOTA)["Quota"]["Value"]
    if allowed < needed:
        yield (
            f"the quota is {allowed:g} vCPUs, and the nodes of {stage.name} may take {needed}: {ask} {VCPU_QUOTA} "
            f"--desired-value {needed}, or lower max_replicas"
        )
    taken = patient.client("ec2").describe_addresses()["Addresses"]
    ours = [each for each in taken if _tag(each, "aws:cloudformation:stack-name") == f"{stage.cluster_name}-network"]
    needed, allowed = (
        stage.nat_gateways - len(ours),
        quota(ServiceCode="ec2", QuotaCode=ADDRESS_QUOTA)["Quota"]["Value"],
    )
    if len(taken) + needed > allowed:
        yield (
            f"the quota is {allowed:g} Elastic IPs, {len(taken)} are taken, and {stage.name} needs {needed} more: "
            f"{ask} {ADDRESS_QUOTA} --desired-value {len(taken) + needed}, or release those that nothing uses"
        )


def zones(patient: Patient) -> Iterator[str]:
    """The zones that the network takes, the first by name, have EKS and the stage's instance types."""
    ec2, stage = patient.client("ec2"), patient.stage
    filters = [{"Name": "zone-type", "Values": ["availability-zone"]}, {"Name": "state", "Values": ["available"]}]
    found = ec2.describe_availability_zones(Filters=filters)["AvailabilityZones"]
    taken = sorted(found, key=lambda zone: zone["ZoneName"])[: stage.zones]
    if len(taken) < stage.zones:
        yield f"{patient.context.region} has {len(taken)} zones, and {stage.name} has zones={stage.zones}: lower it"
    for zone in taken:
        if zone["ZoneId"] in ZONES_WITHOUT_EKS:
            yield f"EKS isn't available in {zone['ZoneName']} ({zone['ZoneId']}): use another region"
    for kind in {node.instance_type for node in (*stage.model_nodes, stage.platform_node)}:
        offers = ec2.describe_instance_type_offerings(
            LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": [kind]}]
        )["InstanceTypeOfferings"]
        missing = {zone["ZoneName"] for zone in taken} - {offer["Location"] for offer in offers}
        if len(missing) == len(taken):
            where = ", ".join(sorted(missing))
            yield f"{kind} isn't offered in {where}: choose another node in config/stages.py, or region"


def identity_provider(patient: Patient) -> Iterator[str]:
    """GitHub's OIDC provider, of which an account can have one, is ours or isn't there."""
    providers = patient.client("iam").list_open_id_connect_providers()["OpenIDConnectProviderList"]
    exists = any(each["Arn"].endswith(f"/{ISSUER}") for each in providers)
    if exists and "sluice-github" not in deployed(patient):
        yield (
            "the account has GitHub's OIDC provider already, and can have one: run npx cdk import sluice-github "
            f"-c stage={patient.stage.name}"
        )


def leftovers(patient: Patient) -> Iterator[str]:
    """Nothing with a fixed name is left from a stage that was taken down."""
    there, stage = deployed(patient), patient.stage
    groups = {
        f"{stage.cluster_name}-cluster": f"/aws/eks/{stage.cluster_name}/cluster",
        f"{stage.cluster_name}-monitoring": stage.log_group,
    }
    for stack, name in groups.items():
        found = patient.client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
        if stack not in there and any(group["logGroupName"] == name for group in found):
            yield f"log group {name} is left from before: aws logs delete-log-group --log-group-name {name}"
    if f"{stage.cluster_name}-secrets" not in there:
        for page in (
            patient.client("secretsmanager").get_paginator("list_secrets").paginate(IncludePlannedDeletion=True)
        ):
            for secret in page["SecretList"]:
                if (name := secret["Name"]) in (stage.github_token, stage.api_keys_source):
                    yield (
                        f"secret {name} is left from before, or waits to be deleted: aws secretsmanager delete-secret "
                        f"--secret-id {name} --force-delete-without-recovery"
                    )
    if "sluice-registry" in there:
        return
    for page in patient.client("ecr").get_paginator("describe_repositories").paginate():
        for repository in page["repositories"]:
            if (name := repository["repositoryName"]) in (IMAGE_REPOSITORY, WEIGHTS_REPOSITORY, PROXY_REPOSITORY):
                yield (
                    f"repository {name} is left from before: aws ecr delete-repository --repository-name {name} "
                    "--force deletes it with its images"
                )


def domain(patient: Patient) -> Iterator[str]:
    """The domain has a public zone, and its parent delegates to it: otherwise its certificate waits for hours."""
    context = patient.context
    if not (name := context.domain):
        return
    client = patient.client("route53")
    listed = client.list_hosted_zones_by_name(DNSName=name)["HostedZones"]
    zones = [each for each in listed if each["Name"] == f"{name}." and not each["Config"]["PrivateZone"]]
    given = context.hosted_zone_id
    ours = [each["Id"] for each in zones if not given or each["Id"] == f"/hostedzone/{given}"]
    if not ours:
        yield (
            f"hosted_zone_id={given} isn't a public zone of {name} in this account: correct it in cdk.json"
            if given
            else f"{name} has no public zone in this account: see DNS and TLS in docs/operations.md"
        )
        return
    wanted = set(client.get_hosted_zone(Id=ours[0])["DelegationSet"]["NameServers"])
    answers = get_json(f"{patient.resolver}?name={name}&type=NS").get("Answer", [])
    if not wanted & {each["data"].rstrip(".") for each in answers}:
        yield f"the parent of {name} doesn't delegate to {', '.join(sorted(wanted))}: add them there as its NS records"


def admins(patient: Patient) -> Iterator[str]:
    """Who administers the cluster exists: EKS refuses an access entry for nobody."""
    iam = patient.client("iam")
    for arn in patient.context.admin_arns:
        account, resource = arn.split(":")[4:6]
        if account != patient.context.account:
            continue  # another account's, which can't be asked
        kind, name = resource.partition("/")[0], resource.rpartition("/")[2]
        try:
            iam.get_role(RoleName=name) if kind == "role" else iam.get_user(UserName=name)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchEntity":
                raise
            yield f"admin_arns has {arn}, which doesn't exist: correct it in cdk.json"


def github(patient: Patient) -> Iterator[str]:
    """The names and ids in cdk.json are those of the repository and its owner, to the letter: the roles trust both."""
    context = patient.context
    name = f"{context.github_owner}/{context.github_repository}"
    try:
        found = ask_github(patient, f"/repos/{name}")
    except HTTPError as error:
        if error.code != 404:
            raise
        yield f"GitHub doesn't show {name}: correct it in cdk.json, or set GH_TOKEN if it is private"
        return
    advice = "correct it, or no workflow gets a role"
    if found["full_name"] != name:  # GitHub answers to any case, and to the old name of what was renamed
        yield f"cdk.json has {name}, and GitHub says {found['full_name']}: {advice}"
    for key, given, real in (
        ("github_repository_id", context.github_repository_id, found["id"]),
        ("github_owner_id", context.github_owner_id, found["owner"]["id"]),
    ):
        if given != str(real):
            yield f"{key}={given} in cdk.json, and the id of {name} is {real}: {advice}"


def signing_key(patient: Patient) -> Iterator[str]:
    """Argo CD will know whose commits it may apply."""
    if not public_keys():
        advice = "run make github, and commit the file that it makes"
        yield f"argocd/keys is empty, so Argo CD would apply no release: {advice}"


CHECKS = (
    Check("credentials", credentials, vital=True),
    Check("bootstrap", bootstrap),
    Check("stacks", stacks),
    Check("quotas", quotas),
    Check("zones", zones),
    Check("identity provider", identity_provider),
    Check("leftovers", leftovers),
    Check("domain", domain),
    Check("admins", admins),
    Check("github", github),
    Check("signing key", signing_key),
)


def deployed(patient: Patient) -> dict[str, str]:
    """Return the status of each stack of Sluice that there is."""
    pages = patient.client("cloudformation").get_paginator("describe_stacks").paginate()
    found = {each["StackName"]: each["StackStatus"] for page in pages for each in page["Stacks"]}
    return {name: status for name, status in found.items() if name.startswith("sluice-")}


def _tag(resource: dict[str, Any], key: str) -> str | None:
    return next((tag["Value"] for tag in resource.get("Tags", []) if tag["Key"] == key), None)
