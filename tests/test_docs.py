"""The documentation says what the code does: settings, make targets, files it links."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from gateway.config import Settings
from loadtest.report.result import Result
from loraplex.cli import COMMANDS, load
from loraplex.client import errors
from loraplex.client.api import AdminApi, Route
from loraplex.errors import LoraplexError
from training.evaluation.scorers.catalogue import SCORERS

ROOT = Path(__file__).resolve().parent.parent
SETTINGS_PAGE = ROOT / "docs" / "settings.md"


def _settings(model: type[BaseModel] = Settings, prefix: str = "") -> set[str]:
    """The dotted names of all settings, nested ones too."""
    names: set[str] = set()
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names |= _settings(kind, f"{prefix}{name}.")
        else:
            names.add(prefix + name)
    return names


def test_every_setting_is_documented_and_no_other() -> None:
    documented = set(re.findall(r"^\| `([a-z0-9_.]+)` \|", SETTINGS_PAGE.read_text(), flags=re.M))
    assert documented == _settings()


def test_every_setting_says_what_it_means() -> None:
    rows = re.findall(
        r"^\| `([a-z0-9_.]+)` \|.*\| ([^|]*) \|$", SETTINGS_PAGE.read_text(), flags=re.M
    )
    assert [name for name, meaning in rows if not meaning.strip()] == []


def test_the_settings_page_is_the_printed_one(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    environment |= {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    printed = subprocess.run(
        [sys.executable, ROOT / "scripts" / "settings_reference.py"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    ).stdout
    fix = "run: .venv/bin/python scripts/settings_reference.py > docs/settings.md"
    assert printed == SETTINGS_PAGE.read_text(), fix


def test_every_scorer_is_documented_and_no_other() -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text()
    table = page.partition("| scorer |")[2].partition("\n\n")[0]
    named = {name for row in table.splitlines() for name in _code(row.split("|")[1:2])}
    assert named == set(SCORERS)


def test_links_in_the_documentation_lead_somewhere() -> None:
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_make_targets_named_in_the_documentation_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.M))
    named = {
        target
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")]
        for target in re.findall(r"(?:`|^)make ([a-z]+)", page.read_text(), flags=re.M)
    }
    assert named <= targets


def _named_commands() -> set[tuple[str, str, str]]:
    """(command, sub-command or nothing, the rest of the line) wherever one is written."""
    pattern = re.compile(r"(?<!from )\bloraplex ([a-z]+)\b(?: ([a-z]+)\b)?([^`\n]*)")
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")]
    return {
        (match[1], match[2] or "", match[3])
        for page in pages
        for match in pattern.finditer(page.read_text().replace("\\\n", " "))
    }


def test_commands_and_options_named_in_the_documentation_exist() -> None:
    unknown = []
    for name, inner, rest in _named_commands():
        if name not in COMMANDS:
            unknown.append(name)
            continue
        command = load(name)
        if hasattr(command, "commands") and inner:
            command = command.commands.get(inner)
        options = [] if command is None else [one for p in command.params for one in _words_of(p)]
        wrong = set(re.findall(r"(?<= )--[a-z-]+", rest)) - {*options, "--help"}
        if command is None or wrong:
            unknown.append(f"{name} {inner} {' '.join(wrong)}")
    assert unknown == []


def _words_of(parameter: Any) -> list[str]:
    return [*parameter.opts, *parameter.secondary_opts]


def test_every_option_of_the_load_test_is_documented_and_no_other() -> None:
    page = (ROOT / "docs" / "loadtest.md").read_text()
    cells = re.findall(r"^\| (`--[^|]*) \|", page, flags=re.M)
    documented = {word for cell in cells for word in re.findall(r"`(--[a-z-]+)", cell)}
    options = {word for one in load("loadtest").params for word in _words_of(one)}
    assert documented == options - {"--help", "-h"}


def test_every_field_of_a_load_tests_result_is_documented_and_no_other() -> None:
    page = (ROOT / "docs" / "loadtest.md").read_text().partition("## result.json")[2]
    assert set(re.findall(r"^\| `([a-z0-9_]+)` \|", page, flags=re.M)) == {*Result.model_fields}


def test_every_call_of_the_client_is_documented_and_no_other() -> None:
    page = (ROOT / "docs" / "client.md").read_text()
    table = page.partition("| calls |")[2].partition("\n\n")[0]
    named = {word for row in table.splitlines() for word in _code(row.split("|")[1:2])}
    calls = {name for name, value in vars(AdminApi).items() if isinstance(value, Route)}
    assert named == calls


def test_every_error_of_the_client_is_documented_and_no_other() -> None:
    page = (ROOT / "docs" / "client.md").read_text()
    table = page.partition("| error |")[2].partition("\n\n")[0]
    named = {word for row in table.splitlines() for word in _code(row.split("|")[1:2])}
    kinds = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, LoraplexError)
    }
    assert named == kinds - {"LoraplexError", "Refused"}


def _code(cells: list[str]) -> list[str]:
    return [word for cell in cells for word in re.findall(r"`([A-Za-z_0-9]+)`", cell)]


def test_the_changelog_names_the_version_being_made() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    version = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(), flags=re.M)
    assert version is not None
    assert "## [Unreleased]" in changelog
    assert version.group(1) in changelog
