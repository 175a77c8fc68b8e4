"""A real PostgreSQL of the tests' own: in a temporary folder, on loopback, gone at the end."""

import contextlib
import itertools
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

USER = "loraplex"
_START_S = 60.0
_FOLDERS = "/usr/lib/postgresql/*/bin"
# Below the ports that the kernel gives to clients: while the server is down, a client that tried
# such a port again and again could be given that very port, and so keep the server from it.
_PORTS = range(20_000, 32_000)


@dataclass
class PostgresServer:
    """One cluster, reached with a password. It dies with the thread that started it."""

    programs: Path
    folder: Path
    port: int
    password: str
    settings: dict[str, str]
    as_user: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str = "postgres") -> str:
        """The database's URL, as the settings take it."""
        address = f"{USER}:{self.password}@127.0.0.1:{self.port}"
        return f"postgresql+psycopg://{address}/{database}"

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty database, which is dropped at the end."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """Runs one statement as the superuser; its rows."""
        with psycopg.connect(
            f"host=127.0.0.1 port={self.port} user={USER} password={self.password}",
            dbname=database,
            autocommit=True,
            connect_timeout=10,
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Starts it; on return it answers."""
        assert self.process is None
        flags = [f"--{name}={value}" for name, value in self.settings.items()]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*_leash(), self.programs / "postgres", "-D", self.folder / "data", *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self.as_user,
            )
        end_s = time.monotonic() + _START_S
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                assert self.process.poll() is None, self.tail()
                assert time.monotonic() < end_s, self.tail()
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Has it end its connections and stop, as an operator does (`pg_ctl stop -m fast`)."""
        if self.process is None:
            return
        self.resume()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(_START_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process = None

    def pause(self) -> None:
        """Freezes all its processes: connections stay open and nothing is answered."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Undoes `pause`."""
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def tail(self) -> str:
        """The log's end."""
        return (self.folder / "log").read_text()[-3000:]

    def _pids(self) -> Iterator[int]:
        """The first process, which makes the others, comes first."""
        if self.process is None:
            return
        pid = self.process.pid
        yield pid
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
            yield from map(int, children.split())


def find_programs() -> Path | None:
    """The folder with the server's programs, the newest where there are several."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    folders = [path for path in Path("/").glob(_FOLDERS.lstrip("/")) if (path / "initdb").exists()]
    return max(folders, key=lambda path: int(path.parent.name), default=None)


@contextlib.contextmanager
def postgres_server(programs: Path, **settings: str) -> Iterator[PostgresServer]:
    """A running cluster. settings: PostgreSQL's own; by default nothing is made durable."""
    folder = Path(tempfile.mkdtemp(prefix="loraplex-postgres-"))
    try:
        server = _make(programs, folder, settings)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make(programs: Path, folder: Path, settings: dict[str, str]) -> PostgresServer:
    password = secrets.token_hex(16)
    password_file = folder / "password"
    password_file.write_text(password)
    as_user: dict[str, Any] = {"env": {**os.environ, "LC_ALL": "C"}, "cwd": folder}
    if os.getuid() == 0:  # as whom it refuses to run
        user = _other_user()
        as_user |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        for path in (folder, password_file):
            os.chown(path, user.pw_uid, user.pw_gid)
    made = subprocess.run(
        [
            programs / "initdb",
            f"--pgdata={folder / 'data'}",
            f"--username={USER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ],
        capture_output=True,
        text=True,
        **as_user,
    )
    assert made.returncode == 0, made.stderr
    port = _free_port()
    chosen = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": "200",
        "shared_buffers": "32MB",
        "dynamic_shared_memory_type": "mmap",
        "fsync": "off",
        "full_page_writes": "off",
        **settings,
    }
    return PostgresServer(programs, folder, port, password, chosen, as_user)


def _other_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("PostgreSQL does not run as root, and there is no user `nobody`")


def _leash() -> list[str]:
    """Ends the server with the tests, however they end; a word before its command."""
    found = shutil.which("setpriv")
    return [found, "--pdeathsig", "INT"] if found else []


def _free_port() -> int:
    for port in random.sample(_PORTS, 100):
        with contextlib.suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")
