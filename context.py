"""What differs from one owner of Sluice to the next: their AWS account, GitHub repository and domain.

These come from `context` in cdk.json or from `cdk -c NAME=VALUE`; nothing in it is secret.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from config import ConfigError

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
    "domain": (r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}", "a domain name such as llm.example.com"),
    "certificate_arn": (rf"{ARN}:acm:[a-z0-9-]+:\d{{12}}:certificate/[0-9a-f-]+", "the ARN of an ACM certificate"),
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
    domain: str = ""
    certificate_arn: str = ""

    def __post_init__(self) -> None:
        for name, (pattern, allowed) in FORMS.items():
            given = getattr(self, name)
            for value in given if isinstance(given, tuple) else [given]:
                if value and not re.fullmatch(pattern, value):
                    raise ConfigError(f"{name}={value!r} is not {allowed}")
        if bool(self.domain) != bool(self.certificate_arn):
            raise ConfigError("domain and certificate_arn go together: TLS needs both, set the other one too")
        if self.certificate_arn and (region := self.certificate_arn.split(":")[3]) != self.region:
            raise ConfigError(
                f"certificate_arn is of {region}, region={self.region}: the certificate must be of the same"
            )

    @classmethod
    def read(cls, get: Callable[[str], Any]) -> Self:
        """Return the context whose values `get` gives by name, None or empty for one that isn't set."""
        values: dict[str, Any] = {}
        for f in fields(cls):
            text = str(get(f.name) or "").strip()
            if not text and f.name not in ("domain", "certificate_arn"):
                raise ConfigError(f"{f.name} is missing: set it in cdk.json or with -c {f.name}=…, {FORMS[f.name][1]}")
            values[f.name] = tuple(re.split(r"[,\s]+", text)) if f.name == "admin_arns" else text
        return cls(**values)

    @classmethod
    def from_cdk_json(cls, path: Path = CDK_JSON) -> Self:
        """Return the context as cdk.json has it, for what isn't run by the CDK."""
        return cls.read(json.loads(path.read_text())["context"].get)

    @property
    def registry(self) -> str:
        """Return the host of the account's image registry."""
        return f"{self.account}.dkr.ecr.{self.region}.amazonaws.com"
