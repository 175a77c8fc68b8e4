"""What is installed and what is shipped: hashed pins that fit, a wheel with every file."""

import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import copy, copytree, ignore_patterns
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
PINS = sorted(path for path in REQUIREMENTS.glob("*.txt") if not path.name.startswith("overrides-"))
PACKAGES = ["adapters_registry", "gateway", "loadtest", "loraplex", "training"]
# Which extras of pyproject.toml each file of pins must satisfy.
EXTRAS = {"cpu.txt": ["cpu"], "cuda.txt": ["cuda"], "dev.txt": ["dev", "postgres"]}


@dataclass(frozen=True)
class Pin:
    """One pinned package of a requirements file."""

    requirement: Requirement
    hashes: int

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        (specifier,) = self.requirement.specifier
        assert specifier.operator == "=="
        return specifier.version


def _pins(path: Path) -> list[Pin]:
    lines = path.read_text().replace("\\\n", " ").splitlines()
    return [
        Pin(Requirement(line.partition("--hash=")[0].strip()), line.count("--hash=sha256:"))
        for line in lines
        if line.strip() and not line.startswith("#")
    ]


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def _wanted(extras: list[str]) -> Iterator[Requirement]:
    """The project's requirements with these extras, extras of extras resolved."""
    project = _project()
    texts = list(project["dependencies"])
    for extra in extras:
        texts += project["optional-dependencies"][extra]
    for requirement in map(Requirement, texts):
        if requirement.name == project["name"]:
            yield from _wanted(sorted(requirement.extras))
        else:
            yield requirement


def _overridden(accelerator: str) -> set[str]:
    """Packages that the overrides keep out."""
    path = REQUIREMENTS / f"overrides-{accelerator}.txt"
    requirements = map(Requirement, path.read_text().splitlines())
    return {canonicalize_name(one.name) for one in requirements if one.marker is not None}


@pytest.mark.parametrize("path", PINS, ids=lambda path: path.name)
def test_every_pin_has_its_hashes(path: Path) -> None:
    pins = _pins(path)
    assert pins
    bare = {pin.name for pin in pins if pin.hashes == 0}
    # Either build of torch, the plain one or the one labelled +cpu, may be installed.
    assert bare <= ({"torch"} if path.name == "cpu.txt" else set())


@pytest.mark.parametrize("path", sorted(REQUIREMENTS.glob("*")), ids=lambda path: path.name)
def test_requirements_name_no_address(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    assert not re.search(
        r"^\s*(-i|-f|--index-url|--extra-index-url|--find-links)\b", text, flags=re.M
    )
    assert not re.search(r"^\S+ @ ", text, flags=re.M)


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_the_pins_satisfy_the_project(name: str) -> None:
    pins: dict[str, list[Pin]] = {}
    for pin in _pins(REQUIREMENTS / name):
        pins.setdefault(pin.name, []).append(pin)
    for requirement in _wanted(EXTRAS[name]):
        found = pins.get(canonicalize_name(requirement.name), [])
        assert found, f"{requirement} is not in {name}: run requirements/compile.sh"
        for pin in found:
            assert requirement.specifier.contains(pin.version), (str(requirement), pin.version)


@pytest.mark.parametrize("accelerator", ["cpu", "cuda"])
def test_what_is_developed_with_is_what_is_served(accelerator: str) -> None:
    """Both files go into one environment: a package in both has one version on this Python."""
    served = {
        pin.name: pin.version
        for pin in _pins(REQUIREMENTS / f"{accelerator}.txt")
        if pin.requirement.marker is None or pin.requirement.marker.evaluate()
    }
    for pin in _pins(REQUIREMENTS / "dev.txt"):
        if pin.requirement.marker is None or pin.requirement.marker.evaluate():
            assert served.get(pin.name, pin.version) == pin.version, pin.name


def test_the_cpu_build_gets_no_packages_of_another_torch() -> None:
    kept_out = _overridden("cpu")
    assert {"torchvision", "torchaudio", "torchcodec"} <= kept_out
    present = {
        pin.name
        for pin in _pins(REQUIREMENTS / "cpu.txt")
        if pin.requirement.marker is None or pin.requirement.marker.evaluate()
    }
    assert not present & kept_out


@pytest.mark.parametrize("accelerator", ["cpu", "cuda"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("python", ["3.11", "3.14"])
def test_the_pins_install_without_a_compiler(
    accelerator: str, machine: str, python: str, tmp_path: Path
) -> None:
    """The oldest and the newest Python that find-python.sh takes: a wheel for every pin."""
    uv = Path(sys.executable).parent / "uv"
    command: list[str | Path] = [
        uv, "pip", "install", "--dry-run", "--only-binary", ":all:", "--target", tmp_path,
        "--python-version", python, "--python-platform", f"{machine}-manylinux_2_36",
        "--requirements", REQUIREMENTS / f"{accelerator}.txt",
        "--overrides", REQUIREMENTS / f"overrides-{accelerator}.txt",
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources by the setuptools of this environment."""
    sources = tmp_path_factory.mktemp("sources")
    for name in ["pyproject.toml", "README.md", "LICENSE"]:
        copy(ROOT / name, sources)
    for name in PACKAGES:
        copytree(ROOT / name, sources / name, ignore=ignore_patterns("__pycache__"))
    out = tmp_path_factory.mktemp("wheels")
    script = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", script, str(out)]
    result = subprocess.run(command, cwd=sources, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (file,) = out.glob("*.whl")
    return file


def test_the_wheel_holds_every_file_of_every_package(wheel: Path) -> None:
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert shipped == sources


def test_the_wheel_carries_the_migrations(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    migrations = [name for name in names if name.startswith("adapters_registry/migrations/")]
    assert any(name.endswith("/env.py") for name in migrations)
    assert any("/versions/" in name for name in migrations)


def test_the_wheel_carries_types_licence_and_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry_points = next(name for name in names if name.endswith("entry_points.txt"))
        assert "loraplex = loraplex.cli:main" in archive.read(entry_points).decode()
        licence = next(name for name in names if name.endswith(".dist-info/licenses/LICENSE"))
        assert "Apache License" in archive.read(licence).decode()
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)


def test_the_version_is_the_same_everywhere(wheel: Path) -> None:
    version = _project()["version"]
    assert f"-{version}-" in wheel.name
    script = "import loraplex; print(loraplex.__version__)"
    printed = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == version
    assert f"loraplex:{version}-" in (ROOT / "compose.yaml").read_text()
