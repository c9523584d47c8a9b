"""The workflows, read: valid, pinned, with no right that they do not need, and in step with the Makefile."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".github" / "workflows"
# GitHub's runners have no Node 20 any more (since 2026-09-16): the first major version of each action that needs none.
NODE_24 = {
    "actions/cache": 5,
    "actions/checkout": 5,
    "actions/deploy-pages": 5,
    "actions/setup-python": 6,
    "actions/upload-artifact": 6,
    "actions/upload-pages-artifact": 5,
}
# What a job may do beyond reading the repository, and why it must.
RIGHTS = {
    ("book", "build"): {"contents": "read", "actions": "read"},  # main's last pages, to compare with
    ("book", "publish"): {"pages": "write", "id-token": "write"},
    ("weekly", "links"): {"actions": "read"},  # main's last pages
}


def workflows():
    return {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.yml"))}


WORKFLOWS = workflows()
JOBS = [(workflow, job) for workflow, content in WORKFLOWS.items() for job in content["jobs"]]


def job(workflow, name):
    return WORKFLOWS[workflow]["jobs"][name]


def steps(workflow, name, action):
    return [step for step in job(workflow, name)["steps"] if step.get("uses", "").partition("@")[0] == action]


def named(workflow, name, part):
    (step,) = [step for step in job(workflow, name)["steps"] if part in step.get("run", "")]
    return step


def triggers(workflow):
    return WORKFLOWS[workflow][True]  # YAML 1.1 reads the key `on` as true


def test_the_workflows_that_there_are():
    assert set(WORKFLOWS) == {"book", "weekly"}
    assert triggers("book") == {"push": {"branches": ["main"]}, "pull_request": None, "workflow_dispatch": None}
    assert len(triggers("weekly")["schedule"]) == 1
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", triggers("weekly")["schedule"][0]["cron"])


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yml")), ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_and_of_the_current_generation(path):
    used = re.findall(r"uses:\s*(.*)", path.read_text(encoding="utf-8"))
    assert len(used) > 2
    for line in used:
        pinned = re.fullmatch(r"([\w.-]+/[\w./-]+)@[0-9a-f]{40} # v(\d+)\.\d+\.\d+", line)
        assert pinned, line
        action = "/".join(pinned[1].split("/")[:2])
        assert action in NODE_24 or action == "lycheeverse/lychee-action", line  # that one runs no Node
        assert int(pinned[2]) >= NODE_24.get(action, 0), line


def test_one_action_has_one_commit():
    text = "\n".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.yml"))
    seen = {}
    for action, commit in re.findall(r"uses:\s*([\w.-]+/[\w.-]+)[\w/-]*@([0-9a-f]{40})", text):
        assert seen.setdefault(action, commit) == commit, action


@pytest.mark.parametrize(("workflow", "name"), JOBS)
def test_least_rights(workflow, name):
    assert WORKFLOWS[workflow]["permissions"] == {"contents": "read"}
    assert job(workflow, name).get("permissions") == RIGHTS.get((workflow, name))
    assert 0 < job(workflow, name)["timeout-minutes"] <= 90
    for checkout in steps(workflow, name, "actions/checkout"):
        assert checkout["with"]["persist-credentials"] is False


def test_no_word_of_a_pull_request_is_run():
    """What others write (titles, branches) reaches no shell: expressions in commands name our own values only."""
    ours = r"(matrix|steps)\."
    for workflow, name in JOBS:
        for step in job(workflow, name)["steps"]:
            for expression in re.findall(r"\$\{\{\s*(.*?)\s*\}\}", step.get("run", "")):
                assert re.match(ours, expression), f"{workflow}, {name}: {expression}"


def test_tests_run_on_every_python_that_the_package_takes():
    spec = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    versions = [f"3.{minor}" for minor in range(int(spec[1]), int(spec[2]))]
    assert job("book", "tests")["strategy"]["matrix"]["python"] == versions
    weekly = {row["resolution"]: row["python"] for row in job("weekly", "versions")["strategy"]["matrix"]["include"]}
    assert weekly == {"highest": versions[-1], "lowest-direct": versions[0]}
    folders = [part for part in named("weekly", "versions", "pytest")["run"].split() if part.startswith("tests/")]
    assert len(folders) > 5
    assert all((ROOT / folder).is_dir() for folder in folders)


def test_only_a_green_main_with_the_published_embeddings_is_published():
    publish, build = job("book", "publish"), job("book", "build")
    assert set(publish["needs"]) == {"tests", "build"}
    assert "github.ref == 'refs/heads/main'" in publish["if"]
    (pages,) = steps("book", "build", "actions/upload-pages-artifact")
    assert pages["if"] == "github.ref == 'refs/heads/main'"
    required = named("book", "build", "make book")["env"]["GAPLIB_REQUIRE"]
    assert re.fullmatch(r"\$\{\{ github\.ref == 'refs/heads/main' && 'published' \|\| '' \}\}", required)
    assert [step for step in build["steps"] if "GAPLIB_REQUIRE" in step.get("env", {})] == [
        named("book", "build", "make book")
    ]


def test_the_cached_path_is_the_one_that_the_makefile_writes():
    exported = re.search(r"^export GAPLIB_CACHE \?= \$\(CURDIR\)/(\S+)$", (ROOT / "Makefile").read_text(), re.M)[1]
    (restore,) = steps("book", "build", "actions/cache/restore")
    (save,) = steps("book", "build", "actions/cache/save")
    assert restore["with"]["path"] == save["with"]["path"] == exported
    code = "${{ runner.os }}-${{ runner.arch }}-${{ steps.before.outputs.code }}"
    assert restore["with"]["key"] == f"runs-{code}"
    assert restore["with"]["restore-keys"] == f"runs-{code}-"
    assert save["with"]["key"].startswith(f"runs-{code.replace('before', 'after')}-")
    assert save["with"]["key"].endswith("${{ steps.after.outputs.content }}")
    keys = [step for step in job("book", "build")["steps"] if "tools.cache_key" in step.get("run", "")]
    assert [step["id"] for step in keys] == ["before", "after"]


def test_a_pull_request_gets_the_pages_and_what_changed():
    uploads = {step["with"]["name"]: step for step in steps("book", "build", "actions/upload-artifact")}
    assert set(uploads) == {"failed", "book", "changed"}
    assert uploads["book"]["with"]["path"].split() == ["_build/html", "_build/results"]
    assert "if" not in uploads["book"]
    compare = named("book", "build", "tools.changed")
    assert compare["if"] == uploads["changed"]["if"] == "github.event_name == 'pull_request'"
    assert "python -m tools.changed _build/earlier _build" in compare["run"]
    assert uploads["changed"]["with"]["path"] in compare["run"]


def test_commands_name_what_there_is():
    """Every make target and every tool that a step calls exists."""
    targets = set(re.findall(r"^([\w./$()-]+):", (ROOT / "Makefile").read_text(), re.M))
    for workflow, name in JOBS:
        for step in job(workflow, name)["steps"]:
            for command in step.get("run", "").splitlines():
                words = shlex.split(command.replace("${{", "").replace("}}", "")) if command.startswith("make ") else []
                assert all(word.replace(".venv", "$(VENV)") in targets for word in words[1:] if "=" not in word), (
                    command
                )
                for tool in re.findall(r"-m tools\.(\w+)", command):
                    assert (ROOT / "tools" / f"{tool}.py").exists()


def test_dependabot_leaves_alone_what_is_held_on_purpose():
    content = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text(encoding="utf-8"))
    updates = {one["package-ecosystem"]: one for one in content["updates"]}
    assert set(updates) == {"github-actions", "pip"}
    ignored = {row["dependency-name"]: row.get("versions") for row in updates["pip"]["ignore"]}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "torch==" in project
    assert ignored["torch"] is ignored["torchvision"] is None  # no version at all
    assert ignored["jupyter-book"] == [">=2"]
    # Whatever pyproject.toml holds below a version is not asked for again each month.
    below = re.findall(r'^  "([\w-]+)[^"]*,?<=?[\d.]+",', project, re.M)
    assert below
    assert set(below) <= set(ignored)
