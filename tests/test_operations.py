"""The operator's guide names what there is."""

import re
from dataclasses import fields

from config import STAGES
from context import Context
from testbed import ROOT

GUIDE = (ROOT / "docs/operations.md").read_text()


def test_every_make_target_in_the_guide_is_in_the_makefile() -> None:
    targets = re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.M)
    named = re.findall(r"make ([a-z]+) STAGE=", GUIDE)
    assert {"synth", "diff", "deploy", "destroy", "cost"} <= set(named) <= set(targets)


def test_the_guide_says_where_each_value_of_the_context_is() -> None:
    for field in fields(Context):
        assert re.search(rf"^\| .*`{field.name}`.* \|$", GUIDE, re.M), field.name


def test_the_variables_in_the_guide_are_those_that_the_workflows_read() -> None:
    workflows = "".join(path.read_text() for path in (ROOT / ".github/workflows").glob("*.yml"))
    for kind, context in {"variable": "vars", "secret": "secrets"}.items():
        rows = re.findall(rf"^\| {kind}s? (.*?) \|", GUIDE, re.M)
        assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(
            re.findall(rf"\b{context}\.(\w+)", workflows)
        )


def test_the_quota_in_the_guide_is_what_each_stages_nodes_may_take() -> None:
    limits = {stage.name: stage.vcpus for stage in STAGES.values() if stage.node}
    assert f"({limits['dev']} for dev, {limits['prod']} for prod)" in GUIDE


def test_every_link_to_another_page_leads_somewhere() -> None:
    for page, _, anchor in re.findall(r"\]\(([a-z]*\.?m?d?)(#([a-z-]+))?\)", GUIDE):
        text = (ROOT / "docs" / page).read_text() if page else GUIDE
        headings = [re.sub(r"[^a-z -]", "", line.lower()) for line in re.findall(r"^#+ (.*)$", text, re.M)]
        assert not anchor or anchor.replace("-", " ") in headings, (page, anchor)
