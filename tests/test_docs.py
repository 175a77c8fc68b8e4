"""The documentation says what the code does: settings, make targets, files it links."""

import os
import re
import subprocess
import sys
from pathlib import Path

from pydantic import BaseModel

from gateway.config import Settings

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
    documented = set(re.findall(r"^\| `([a-z_.]+)` \|", SETTINGS_PAGE.read_text(), flags=re.M))
    assert documented == _settings()


def test_every_setting_says_what_it_means() -> None:
    rows = re.findall(r"^\| `([a-z_.]+)` \|.*\| ([^|]*) \|$", SETTINGS_PAGE.read_text(), flags=re.M)
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


def test_the_changelog_names_the_version_being_made() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    version = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(), flags=re.M)
    assert version is not None
    assert "## [Unreleased]" in changelog
    assert version.group(1) in changelog
