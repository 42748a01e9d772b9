"""The operator's guide names what there is."""

import re
import textwrap
from dataclasses import fields
from typing import Any

import yaml

import config
from config import STAGES
from context import Context
from testbed import ROOT
from tests.support.several_models import EMBEDDING, TWO_MODELS

GUIDE = (ROOT / "docs/operations.md").read_text()
WORKFLOWS = {path.stem: path for path in (ROOT / ".github/workflows").glob("*.yml")}


def test_every_make_target_in_the_guide_is_in_the_makefile() -> None:
    targets = re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.M)
    named = re.findall(r"make ([a-z]+) STAGE=", GUIDE)
    assert {"synth", "diff", "deploy", "destroy", "cost"} <= set(named) <= set(targets)


def test_the_guide_says_where_each_value_of_the_context_is() -> None:
    for field in fields(Context):
        assert re.search(rf"^\| .*`{field.name}`.* \|$", GUIDE, re.M), field.name


def test_the_variables_and_secrets_in_the_guide_are_those_that_the_workflows_read() -> None:
    workflows = "".join(path.read_text() for path in WORKFLOWS.values())
    assert set(re.findall(r"gh variable set (\w+)", GUIDE)) == set(re.findall(r"\bvars\.(\w+)", workflows))
    rows = re.findall(r"^\| ((?:`\w+_KEY`(?:, )?)+) \| `\w+` \|", GUIDE, re.M)
    assert set(re.findall(r"\w+_KEY", "".join(rows))) == set(re.findall(r"\bsecrets\.(\w+)", workflows))


def test_the_roles_in_the_guide_are_those_that_the_stack_makes() -> None:
    named = re.findall(r'"\$\(role ([\w-]+)\)"', GUIDE)
    assert sorted(named) == sorted(re.findall(r'"(sluice-[\w-]+)"', (ROOT / "stacks/github_oidc.py").read_text()))


def test_each_workflow_in_the_guides_is_there_and_has_the_inputs_that_are_named() -> None:
    found = re.findall(r"gh workflow run (\w+)\.yml(.*?)(?:`|\n|#)", GUIDE + (ROOT / "docs/argocd.md").read_text())
    assert {name for name, _ in found} >= {"models", "promote", "infra", "rollback"}
    for name, options in found:
        inputs = (yaml.safe_load(WORKFLOWS[name].read_text())[True]["workflow_dispatch"] or {}).get("inputs", {})
        assert set(re.findall(r"-f (\w+)=", options)) <= set(inputs), name


def test_what_the_cdk_needs_is_installed_before_it_is_first_called() -> None:
    steps = GUIDE.partition("## Deploy for the first time")[2].partition("```\n")[2]
    commands = [line.partition(" #")[0].strip() for line in steps.splitlines()]
    assert commands.index("make synth STAGE=dev") < commands.index("npx cdk bootstrap -c stage=dev")
    assert re.search(r"^synth: .*\bsync node_modules\b", (ROOT / "Makefile").read_text(), re.M)


def test_the_quota_in_the_guide_is_what_each_stages_nodes_may_take() -> None:
    limits = {stage.name: stage.vcpus for stage in STAGES.values() if stage.node}
    assert f"({limits['dev']} for dev, {limits['prod']} for prod)" in GUIDE


def test_every_link_to_another_page_leads_somewhere() -> None:
    for page, _, anchor in re.findall(r"\]\(([a-z]*\.?m?d?)(#([a-z-]+))?\)", GUIDE):
        text = (ROOT / "docs" / page).read_text() if page else GUIDE
        headings = [re.sub(r"[^a-z -]", "", line.lower()) for line in re.findall(r"^#+ (.*)$", text, re.M)]
        assert not anchor or anchor.replace("-", " ") in headings, (page, anchor)


def test_the_example_of_another_model_is_the_one_that_the_tests_render() -> None:
    [example] = re.findall(r"```python\n(.*?)```", GUIDE, re.S)
    names: dict[str, Any] = dict(vars(config))
    exec(textwrap.dedent(example), names)
    assert names["EMBEDDING"] == EMBEDDING
    assert 'aliases=("gpt-4o-mini",)' in GUIDE
    assert TWO_MODELS.aliases == ("gpt-4o-mini",)
