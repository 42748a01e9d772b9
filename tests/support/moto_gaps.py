"""What our stacks need and moto's CloudFormation lacks, added to moto in the process that serves it.

Each is a few lines from CloudFormation to what moto's own services can do. docs/operations.md says what stays untested.
"""

from collections.abc import Callable
from typing import Any

from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import ChangeSet, CloudFormationBackend, Stack
from moto.cloudformation.parsing import ResourceMap
from moto.cloudformation.responses import CloudFormationResponse
from moto.core.common_models import CloudFormationModel
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.models.elastic_ip_addresses import ElasticAddress
from moto.ec2.models.flow_logs import FlowLogs
from moto.ec2.models.internet_gateways import InternetGateway
from moto.ec2.models.nat_gateways import NatGateway
from moto.ec2.models.route_tables import Route, RouteTable
from moto.ec2.models.vpcs import VPCEndPoint
from moto.iam.models import iam_backends
from moto.server import main


def serve(port: int) -> None:
    """Run moto with all of this on loopback, until the process ends."""
    add_termination_protection()
    keep_what_is_retained()
    finish_change_sets()
    repeat_parameters_as_given()
    for model, delete in DELETED_IN_EC2.items():
        add_deletion(model, delete)
    main(["-H", "127.0.0.1", "-p", str(port)])


class OidcProvider(CloudFormationModel):
    """AWS::IAM::OIDCProvider, as moto's IAM has it; moto finds it by being a subclass."""

    def __init__(self, arn: str) -> None:
        self.physical_resource_id = arn

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::IAM::OIDCProvider"

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **kwargs: Any
    ) -> "OidcProvider":
        properties = cloudformation_json["Properties"]
        provider = iam_backends[account_id]["aws"].create_open_id_connect_provider(
            properties["Url"], properties.get("ThumbprintList", []), properties["ClientIdList"], []
        )
        return cls(provider.arn)

    def delete(self, account_id: str, region_name: str) -> None:
        iam_backends[account_id]["aws"].delete_open_id_connect_provider(self.physical_resource_id)

    def is_created(self) -> bool:
        return True


def add_termination_protection() -> None:
    """Let it be switched, and refuse to delete a stack that has it."""
    delete_stack = CloudFormationBackend.delete_stack

    def update(self: CloudFormationResponse) -> ActionResult:
        stack = self.cloudformation_backend.get_stack(self._get_param("StackName"))
        stack.enable_termination_protection = self._get_bool_param("EnableTerminationProtection")
        return ActionResult({"StackId": stack.stack_id})

    def delete_unless_protected(self: CloudFormationBackend, name_or_stack_id: str) -> None:
        if self.get_stack(name_or_stack_id).enable_termination_protection:
            raise ValidationError(
                message=f"{name_or_stack_id} cannot be deleted while TerminationProtection is enabled"
            )
        delete_stack(self, name_or_stack_id)

    CloudFormationResponse.update_termination_protection = update  # type: ignore[attr-defined]
    CloudFormationBackend.delete_stack = delete_unless_protected  # type: ignore[method-assign]


def keep_what_is_retained() -> None:
    """Let RetainExceptOnCreate be what it is after creation: Retain."""
    delete = ResourceMap.delete

    def delete_the_rest(self: ResourceMap) -> None:
        for resource in self._resource_json_map.values():
            if resource.get("DeletionPolicy") == "RetainExceptOnCreate":
                resource["DeletionPolicy"] = "Retain"
        delete(self)

    ResourceMap.delete = delete_the_rest  # type: ignore[method-assign]


class ChangeSetNotFound(ServiceException):
    """There is no change set of that name; moto says that there is no such stack."""

    code = "ChangeSetNotFound"


def finish_change_sets() -> None:
    """Give a stack that a change set made its outputs, and forget the change set.

    moto looks change sets up by their name alone, which is the same for all that the CDK makes.
    """
    execute = CloudFormationBackend.execute_change_set

    def execute_and_forget(self: CloudFormationBackend, change_set_name: str, stack_name: str | None = None) -> None:
        execute(self, change_set_name, stack_name)
        self.change_sets.clear()
        for stack in self.stacks.values():
            stack._parse_template()
            stack.output_map = stack._create_output_map()

    def find(self: CloudFormationBackend, change_set_name: str) -> ChangeSet | None:
        for id_, change_set in self.change_sets.items():
            if change_set_name in (id_, change_set.change_set_name):
                return change_set
        raise ChangeSetNotFound(f"ChangeSet [{change_set_name}] does not exist")

    def delete(self: CloudFormationBackend, change_set_name: str) -> None:
        self.change_sets.clear()

    CloudFormationBackend.execute_change_set = execute_and_forget  # type: ignore[method-assign]
    CloudFormationBackend.describe_change_set = find  # type: ignore[method-assign]
    CloudFormationBackend.delete_change_set = delete  # type: ignore[method-assign]


def repeat_parameters_as_given() -> None:
    """Let UsePreviousValue be the name of a parameter in SSM, not the value found there, when a stack is updated."""

    def given(self: Stack) -> dict[str, Any]:
        defaults = {name: slot.get("Default") for name, slot in self.template_dict.get("Parameters", {}).items()}
        return defaults | self.resource_map.input_parameters

    Stack.stack_parameters = property(given)  # type: ignore[method-assign,assignment]


def add_deletion(model: type[Any], delete: Callable[[EC2Backend, Any], object]) -> None:
    """Let a resource of EC2 go with its stack."""

    def delete_in_region(self: Any, account_id: str, region_name: str) -> None:
        delete(ec2_backends[account_id][region_name], self.physical_resource_id)

    model.delete = delete_in_region


def _delete_route_table(backend: EC2Backend, id_: str) -> None:
    backend.get_route_table(id_)._associations.clear()
    backend.delete_route_table(id_)


def _delete_internet_gateway(backend: EC2Backend, id_: str) -> None:
    backend.get_internet_gateway(id_).vpc = None
    backend.delete_internet_gateway(id_)


def _release_address(backend: EC2Backend, public_ip: str) -> None:
    backend.release_address(public_ip)


DELETED_IN_EC2: dict[type[Any], Callable[[EC2Backend, Any], object]] = {
    ElasticAddress: _release_address,
    FlowLogs: lambda backend, id_: backend.delete_flow_logs([id_]),
    InternetGateway: _delete_internet_gateway,
    NatGateway: lambda backend, id_: backend.delete_nat_gateway(id_),
    Route: lambda backend, id_: None,  # it goes with its table
    RouteTable: _delete_route_table,
    VPCEndPoint: lambda backend, id_: backend.vpc_end_points.pop(id_),
}
