"""What differs from one owner of Sluice to the next: their AWS account, GitHub repository and domain.

These come from `context` in cdk.json or from `cdk -c NAME=VALUE`; nothing in it is secret.
"""

import json
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Self

from config import ConfigError, Stage, find_stage

CDK_JSON = Path(__file__).with_name("cdk.json")
ARN = r"arn:aws[a-z-]*"
# What each value must look like, and how an error says it. The names are the keys in cdk.json.
FORMS = {
    "account": (r"\d{12}", "the 12 digits of an AWS account id"),
    "region": (r"[a-z]{2}(-[a-z]+)+-\d", "an AWS region such as eu-central-1"),
    "github_owner": (r"[A-Za-z0-9](-?[A-Za-z0-9])*", "a GitHub user or organisation"),
    "github_owner_id": (r"[1-9]\d*", "its numeric id: gh api users/OWNER --jq .id"),
    "github_repository": (r"[A-Za-z0-9._-]+", "the repository's name without its owner"),
    "github_repository_id": (r"[1-9]\d*", "its numeric id: gh api repos/OWNER/NAME --jq .id"),
    "admin_arns": (rf"{ARN}:iam::\d{{12}}:(role|user)/\S+", "ARNs of IAM roles or users, with commas between them"),
    "api_allowed_cidrs": (r"[0-9./]+", "IPv4 networks such as 203.0.113.0/24, with commas between them"),
    "alert_emails": (r"[^@\s]+@[^@\s]+\.[^@\s]+", "e-mail addresses, with commas between them"),
    "domain": (r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}", "a domain name such as llm.example.com"),
    "hosted_zone_id": (r"Z[A-Z0-9]+", "the id of the domain's public hosted zone in Route 53"),
    "addresses": (
        r"[a-z0-9]+=https?://[\w.-]+(:\d+)?",
        "stages with their addresses such as dev=https://llm.example.com",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where Sluice is deployed, for whom. Raises ConfigError with the field, what is allowed, and where to set it."""

    account: str
    region: str
    github_owner: str
    github_owner_id: str
    github_repository: str
    github_repository_id: str
    admin_arns: tuple[str, ...]  # who administers the cluster, besides the deploying role
    api_allowed_cidrs: tuple[str, ...] = ()  # who reaches the cluster's API from outside, in every stage
    alert_emails: tuple[str, ...] = ()  # who is told of alarms and of the budget
    domain: str = ""  # for plain HTTP: ""
    hosted_zone_id: str = ""  # of the domain, where it has one; else it gets one
    addresses: tuple[str, ...] = ()  # STAGE=URL of those that are reached elsewhere than at `domain` or a load balancer

    def __post_init__(self) -> None:
        for name, (pattern, allowed) in FORMS.items():
            given = getattr(self, name)
            for value in given if isinstance(given, tuple) else [given]:
                if value and not re.fullmatch(pattern, value):
                    raise ConfigError(f"{name}={value!r} is not {allowed}")
        if self.hosted_zone_id and not self.domain:
            raise ConfigError(f"hosted_zone_id={self.hosted_zone_id} needs domain: name the domain of that zone")
        for each in self.addresses:
            find_stage(each.partition("=")[0])

    @classmethod
    def read(cls, get: Callable[[str], Any], *, where: str = "in cdk.json or with -c {}=…") -> Self:
        """Return the context whose values `get` gives by name, None or empty for one that isn't set.

        where: a person sets them. Raises ConfigError.
        """
        values: dict[str, Any] = {}
        for f in fields(cls):
            text = str(get(f.name) or "").strip()
            if not text and f.default is MISSING:
                raise ConfigError(f"{f.name} is missing: set it {where.format(f.name)}, {FORMS[f.name][1]}")
            several = f.name in ("admin_arns", "api_allowed_cidrs", "alert_emails", "addresses")
            values[f.name] = tuple(re.findall(r"[^,\s]+", text)) if several else text
        return cls(**values)

    @classmethod
    def from_cdk_json(cls, path: Path = CDK_JSON) -> Self:
        """Return the context as cdk.json has it, for what isn't run by the CDK."""
        return cls.read(json.loads(path.read_text())["context"].get, where="in cdk.json")

    def host(self, stage: Stage) -> str:
        """Return the name by which a stage is reached, "" without a domain."""
        if not self.domain:
            return ""
        return f"{stage.subdomain}.{self.domain}" if stage.subdomain else self.domain

    def address(self, stage: Stage) -> str:
        """Return the URL that `addresses` has for a stage, "" if it has none."""
        return dict(each.split("=", 1) for each in self.addresses).get(stage.name, "")

    @property
    def registry(self) -> str:
        """Return the host of the account's image registry."""
        return f"{self.account}.dkr.ecr.{self.region}.amazonaws.com"
