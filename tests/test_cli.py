"""The `loraplex` command: what people and programs see, against a real HTTP server."""

import importlib.util
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from loraplex import __version__
from loraplex.cli import COMMANDS, app
from tests.fake_gateway import FakeGateway, serving_fake

KEY = "lpx_0123456789abcdef_secret"
ADAPTER = "/admin/v1/tenants/acme/adapters/support"
VERSION: dict[str, Any] = {
    "version": 3,
    "digest": "ab" * 32,
    "state": "candidate",
    "verdict": None,
    "proof": "unproved",
    "rank": 8,
    "size_bytes": 1_500_000,
    "warnings": [],
    "profile": {"system_prompt": None, "sampling": {}, "stop": ["END"], "chat_template": None},
    "created_at": "2026-01-31T12:00:00+00:00",
}
RECORD: dict[str, Any] = {
    **VERSION,
    "created_by": "key:0123456789abcdef",
    "summary": {"alpha": 16.0, "targets": ["q_proj", "v_proj"]},
    "files": {"adapter_config.json": "cd" * 32, "adapter_model.safetensors": "ef" * 32},
    "lineage": {"base": {"name": "b" * 90}, "recipe": {"optimizer": {"rate" * 20: 0.001}}},
    "evaluation": {"verdict": "passed", "report": {"scores": {"f1": 0.9}, "gates": ["a", "b"]}},
    "proof_figures": {
        "difference": 0.31234,
        "noise": 0.00012,
        "tokens": 512,
        "base": "base",
        "reason": None,
    },
}
LONG = "n" * 63
MOMENT = "2026-01-31T12:00:00+00:00"
POLICY = {"allow_base": True, "require_pass": False}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*os.environ]:
        if name.startswith("LORAPLEX_") or name in ("FORCE_COLOR", "NO_COLOR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LORAPLEX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with serving_fake() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An adapter as PEFT saves it, as far as the command looks at it."""
    made = tmp_path / "adapter"
    made.mkdir()
    (made / "adapter_config.json").write_text('{"r": 8}')
    (made / "adapter_model.safetensors").write_bytes(b"weights" * 10_000)
    return made


def run(gateway: FakeGateway, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--url", gateway.url, "--key", KEY])


def json_of(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def run_process(*words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "loraplex", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
    )


# the root


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    program = """
import sys
from loraplex.cli import main
sys.argv = ["loraplex", "--help"]
try: main()
except SystemExit as end: assert not end.code
heavy = {"torch", "vllm", "fastapi", "transformers", "sqlalchemy", "openai", "httpx", "gateway"}
print("IMPORTED", heavy & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "IMPORTED set()" in done.stdout, done.stdout + done.stderr
    for name, lazy in COMMANDS.items():
        assert name in done.stdout
        assert lazy.help in done.stdout


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("serve", "demo")])
def test_commands_that_ask_a_gateway_import_no_engine(command: str) -> None:
    program = f"""
import sys
from loraplex.cli import load
load({command!r})
print("IMPORTED", {{"torch", "vllm", "fastapi", "sqlalchemy", "gateway"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "IMPORTED set()" in done.stdout, done.stdout + done.stderr


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"loraplex {__version__}\n")


def test_an_unknown_command_is_wrong_usage_with_a_hint() -> None:
    result = CliRunner().invoke(app, ["stauts"])
    assert result.exit_code == 2
    assert "Did you mean 'status'" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_script(shell: str) -> None:
    done = run_process(_LORAPLEX_COMPLETE=f"source_{shell}")
    assert done.returncode == 0
    assert "_LORAPLEX_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("loraplex ada", "adapters"),
        ("loraplex adapters prom", "promote"),
        ("loraplex adapters promote --rea", "--reason"),
        ("loraplex serve --engine-u", "--engine-url"),
        ("loraplex ver", "verify"),
        ("loraplex keys create acme --scope man", "manage"),
    ],
)
def test_shell_completion(line: str, expected: str) -> None:
    done = run_process(
        _LORAPLEX_COMPLETE="complete_bash",
        COMP_WORDS=line,
        COMP_CWORD=str(len(line.split()) - 1),
    )
    assert done.stdout.split() == [expected]


@pytest.mark.parametrize("words", ["loraplex", "bash -c 'true; loraplex'"])
def test_the_completion_that_is_shown_is_one_that_bash_takes(tmp_path: Path, words: str) -> None:
    command = tmp_path / "loraplex"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m loraplex --show-completion "$@"\n')
    command.chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    if words == "loraplex":  # The shell is named where it cannot be found out.
        environ["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
        words = "loraplex bash"
    shown = subprocess.run(
        ["bash", "-c", f"{words}; true"], capture_output=True, text=True, env=environ
    )
    assert "complete -o" in shown.stdout, shown.stderr
    assert "_LORAPLEX_COMPLETE=complete_bash" in shown.stdout
    checked = subprocess.run(["bash", "-n"], input=shown.stdout, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_completion_is_installed_where_bash_finds_it(tmp_path: Path) -> None:
    environ = {**os.environ, "HOME": str(tmp_path)}
    install = f"{sys.executable} -m loraplex --install-completion; true"
    done = subprocess.run(["bash", "-c", install], capture_output=True, text=True, env=environ)
    assert "bash completion installed" in done.stdout, done.stderr
    (script,) = tmp_path.glob(".bash_completions/*")
    assert str(script) in (tmp_path / ".bashrc").read_text()
    subprocess.run(["bash", "-n", str(script)], check=True)


# which gateway, which key


def test_nothing_there_is_one_line_with_the_way_out() -> None:
    result = CliRunner().invoke(app, ["tenants", "list", "--url", "http://127.0.0.1:9"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: cannot reach http://127.0.0.1:9: is `loraplex serve`")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://x", "http://", "http://x:port"])
def test_an_address_that_is_none(url: str) -> None:
    result = CliRunner().invoke(app, ["tenants", "list", "--url", url])
    assert result.exit_code == 2
    assert "write it like http://127.0.0.1:8080" in result.stderr


@pytest.mark.parametrize(
    ("flag", "environ", "file", "source"),
    [
        ("k1", {"LORAPLEX_KEY": "k2"}, "k4", "--key"),
        (None, {"LORAPLEX_KEY": "k2", "LORAPLEX_ADMIN_KEY": "k3"}, "k4", "LORAPLEX_KEY"),
        (None, {"LORAPLEX_KEY": "", "LORAPLEX_ADMIN_KEY": "k3"}, "k4", "LORAPLEX_ADMIN_KEY"),
        (None, {}, "k4\n", "the file"),
    ],
)
def test_where_the_key_comes_from(
    gateway: FakeGateway,
    tmp_path: Path,
    flag: str | None,
    environ: Mapping[str, str],
    file: str,
    source: str,
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "admin.key").write_text(file)
    gateway.refuse("GET /admin/v1/tenants", 401, "wrong key")
    words = ["tenants", "list", *(["--key", flag] if flag else [])]
    result = CliRunner().invoke(app, words, env={"LORAPLEX_URL": gateway.url, **environ})
    assert result.exit_code == 1
    assert f"does not know the key from {source}" in result.stderr
    sent = gateway.asked[0].headers["authorization"].removeprefix("Bearer ")
    assert sent in (flag, *environ.values(), file.strip())
    assert sent not in result.stderr.replace("LORAPLEX_KEY", "")


def test_this_machines_key_stays_on_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "admin.key").write_text("k4")
    words = ["tenants", "list", "--url", "https://gateway.test"]
    result = CliRunner().invoke(app, words, env={"LORAPLEX_ADMIN_KEY": "k3"})
    assert result.exit_code == 2
    assert "pass that gateway's key with --key or LORAPLEX_KEY" in result.stderr


def test_no_key_at_all(gateway: FakeGateway) -> None:
    gateway.refuse("GET /admin/v1/tenants", 401, "no key")
    result = CliRunner().invoke(app, ["tenants", "list", "--url", gateway.url])
    assert result.exit_code == 1
    assert "there is none in the file" in result.stderr
    assert "pass --key or set LORAPLEX_KEY" in result.stderr


def test_a_key_that_no_header_can_carry(gateway: FakeGateway) -> None:
    result = CliRunner().invoke(app, ["tenants", "list", "--url", gateway.url, "--key", "a\nb"])
    assert result.exit_code == 2
    assert "the key from --key holds characters" in result.stderr


# what is printed


def full_gateway(gateway: FakeGateway) -> None:
    """Names as long as they may be, and every list filled."""
    created = {"created_at": MOMENT}
    gateway.on(
        "GET /admin/v1/tenants",
        {"data": [{"name": LONG, "policy": POLICY, **created}]},
    )
    deleted = {"name": LONG, "deleted_at": MOMENT, "purge_at": "2026-02-07T12:00:00+00:00"}
    gateway.on("GET /admin/v1/deleted-tenants", {"data": [deleted]})
    gateway.on(f"GET /admin/v1/tenants/{LONG}", {"name": LONG, "policy": POLICY, **created})
    gateway.on(
        f"GET /admin/v1/tenants/{LONG}/keys",
        {
            "data": [
                {
                    "id": "ab" * 8,
                    "name": LONG,
                    "scopes": ["inference", "manage"],
                    "expires_at": MOMENT,
                    "last_used_at": MOMENT,
                    **created,
                }
            ]
        },
    )
    adapter = {"tenant": LONG, "adapter": LONG, "live": 3, "revision": 7, "versions": [VERSION]}
    gateway.on(f"GET /admin/v1/tenants/{LONG}/adapters", {"data": [adapter]})
    path = f"/admin/v1/tenants/{LONG}/adapters/{LONG}"
    gateway.on(f"GET {path}/versions", {"data": [VERSION]})
    gateway.on(f"GET {path}/versions/3", {**RECORD, "warnings": ["w " * 80]})
    gateway.on(f"GET {path}/versions/2", {**RECORD, "digest": "12" * 32, "lineage": {}})
    gateway.on(f"GET {path}/versions/3/card", b"# A card\n")
    entry = {
        "at": MOMENT,
        "actor": "key:0123456789abcdef",
        "action": "promote",
        "from": None,
        "to": 3,
        "reason": "because " * 20,
        "forced": True,
    }
    gateway.on(f"GET {path}/history", {"data": [entry]})
    gateway.on("GET /readyz", {"status": "ready"})
    engine = {
        "id": "127.0.0.1:8000",
        "url": "http://127.0.0.1:8000",
        "state": "up",
        "reason": "",
        "resident": ["a", "b"],
        "in_flight": 1,
    }
    gateway.on("GET /admin/v1/engines", {"data": [engine]})
    change = {
        "id": 123456,
        "at": MOMENT,
        "actor": "key:0123456789abcdef",
        "action": "version.promote",
        "tenant": LONG,
        "target": f"{LONG}@3",
        "detail": {"reason": "because " * 20},
    }
    gateway.on("GET /admin/v1/audit", {"data": [change]})


READS = [
    ("tenants", "list"),
    ("keys", "list", LONG),
    ("adapters", "list"),
    ("adapters", "list", LONG),
    ("adapters", "show", f"{LONG}/{LONG}"),
    ("adapters", "show", f"{LONG}/{LONG}@3"),
    ("adapters", "diff", f"{LONG}/{LONG}@2", f"{LONG}/{LONG}@3"),
    ("adapters", "card", f"{LONG}/{LONG}@3"),
    ("adapters", "history", f"{LONG}/{LONG}"),
    ("tenants", "list", "--deleted"),
    ("tenants", "policy", LONG),
    ("audit",),
    ("status",),
]


@pytest.mark.parametrize("words", READS, ids=" ".join)
def test_tables_fit_80_columns_without_colours_on_a_pipe(
    gateway: FakeGateway, words: tuple[str, ...]
) -> None:
    full_gateway(gateway)
    done = run(gateway, *words)
    assert done.exit_code == 0, done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("words", READS, ids=" ".join)
def test_json_is_one_document(gateway: FakeGateway, words: tuple[str, ...]) -> None:
    full_gateway(gateway)
    assert json_of(run(gateway, *words, "--json"))


@pytest.mark.parametrize(
    "words", [("tenants", "list"), ("keys", "list", "acme"), ("adapters", "list", "acme")]
)
def test_an_empty_list_says_how_to_fill_it_beside_stdout(
    gateway: FakeGateway, words: tuple[str, ...]
) -> None:
    for path in ["tenants", "tenants/acme/keys", "tenants/acme/adapters"]:
        gateway.on(f"GET /admin/v1/{path}", {"data": []})
    result = run(gateway, *words)
    assert (result.exit_code, result.stdout) == (0, "")
    assert ": loraplex " in result.stderr


def test_text_from_the_gateway_is_no_markup(gateway: FakeGateway) -> None:
    gateway.refuse("POST /admin/v1/tenants", 400, "no [bold]name[/bold] [/x]")
    result = run(gateway, "tenants", "create", "x")
    assert result.stderr == "error: no [bold]name[/bold] [/x]\n"


def test_on_a_terminal_there_are_colours(gateway: FakeGateway) -> None:
    full_gateway(gateway)
    assert "\x1b[1m" in on_terminal("tenants", "list", "--url", gateway.url, "--key", KEY)


def on_terminal(*words: str) -> str:
    """What a terminal is sent."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "loraplex", *words],
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            block = os.read(controller, 65536)
        except OSError:  # the other side is closed
            break
        if not block:
            break
        shown += block
    os.close(controller)
    assert process.wait() == 0, shown
    return shown.decode()


# tenants and keys


def test_tenants_create_and_delete(gateway: FakeGateway) -> None:
    tenant = {"name": "acme", "policy": POLICY, "created_at": MOMENT}
    gateway.on("POST /admin/v1/tenants", tenant, 201)
    gateway.on("DELETE /admin/v1/tenants/acme", b"", 204)
    earlier = {"name": "acme", "deleted_at": MOMENT, "purge_at": "2026-02-07T12:00:00+00:00"}
    deleted = [{**earlier, "name": "other"}, earlier, {**earlier, "purge_at": MOMENT}]
    gateway.on("GET /admin/v1/deleted-tenants", {"data": deleted})
    assert run(gateway, "tenants", "create", "acme").stdout.startswith("Created tenant acme.")
    assert json_of(run(gateway, "tenants", "create", "acme", "--json")) == tenant
    assert run(gateway, "tenants", "delete", "acme").stdout.splitlines() == [
        "Deleted tenant acme. Its keys are refused from now on.",
        "Until 2026-02-07 12:00 UTC it can come back: loraplex tenants restore acme",
    ]
    delete = ["tenants", "delete", "acme", "--reason", "it left", "--json"]
    assert json_of(run(gateway, *delete)) == {
        "name": "acme",
        "deleted": True,
        "purge_at": "2026-02-07T12:00:00+00:00",
    }
    assert gateway.asked[-2].query == "reason=it+left"
    gateway.on("GET /admin/v1/deleted-tenants", {"data": []})
    assert run(gateway, "tenants", "delete", "acme").stdout.count("\n") == 1


def test_tenants_restore_and_policy(gateway: FakeGateway) -> None:
    tenant = {"name": "acme", "policy": POLICY, "created_at": MOMENT}
    gateway.on("POST /admin/v1/deleted-tenants/acme/restore", tenant)
    assert run(gateway, "tenants", "restore", "acme", "--reason", "back").stdout.splitlines() == [
        "Restored tenant acme with its adapters, without its keys.",
        "Next: loraplex keys create acme",
    ]
    changed = {**tenant, "policy": {"allow_base": False, "require_pass": True}}
    gateway.on("PATCH /admin/v1/tenants/acme", changed)
    flags = ["--require-pass", "--no-allow-base"]
    shown = run(gateway, "tenants", "policy", "acme", *flags).stdout
    assert [line.rstrip() for line in shown.splitlines()] == [
        "tenant                   acme",
        "may call the base model  no",
        "needs a pass to promote  yes",
    ]
    assert json_of(run(gateway, "tenants", "policy", "acme", "--no-require-pass", "--json"))
    assert [json.loads(asked.body) for asked in gateway.asked] == [
        {"reason": "back"},
        {"policy": {"allow_base": False, "require_pass": True}},
        {"policy": {"require_pass": False}},
    ]


def test_tenants_export_and_import(gateway: FakeGateway, tmp_path: Path) -> None:
    gateway.on("GET /admin/v1/tenants/acme/export", b"tar" * 1000)
    file = tmp_path / "acme.tar"
    export = ["tenants", "export", "acme", "--out", str(file)]
    assert run(gateway, *export).stdout == f"Exported tenant acme to {file} (2.9 KiB).\n"
    assert file.read_bytes() == b"tar" * 1000
    assert file.stat().st_mode & 0o777 == 0o600
    again = run(gateway, *export)
    assert again.exit_code == 2
    assert "is there already; name a new file" in again.stderr
    tenant = {"name": "other", "policy": POLICY, "created_at": MOMENT}
    gateway.on("POST /admin/v1/tenants/import", tenant, 201)
    import_ = ["tenants", "import", str(file), "--name", "other"]
    said = "Imported tenant other. Next: loraplex keys create other\n"
    assert run(gateway, *import_).stdout == said
    assert gateway.asked[-1].body == file.read_bytes()
    assert json_of(run(gateway, *import_, "--json")) == tenant


def test_an_export_that_is_refused_leaves_no_file(gateway: FakeGateway, tmp_path: Path) -> None:
    export = ["tenants", "export", "acme", "--out", str(tmp_path / "acme.tar")]
    assert run(gateway, *export).exit_code == 1
    assert list(tmp_path.iterdir()) == []
    export[-1] = str(tmp_path / "no" / "acme.tar")
    result = run(gateway, *export)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: cannot write ")


def test_a_refusal_is_exit_code_1(gateway: FakeGateway) -> None:
    gateway.refuse("POST /admin/v1/tenants", 409, "Tenant acme is there already.")
    result = run(gateway, "tenants", "create", "acme", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: Tenant acme is there already.\n"


MADE_KEY = {
    "id": "ab12",
    "name": "key",
    "scopes": ["inference"],
    "created_at": MOMENT,
    "expires_at": None,
    "last_used_at": None,
    "key": KEY,
}


def test_a_key_is_shown_alone_on_stdout_with_a_note_beside(gateway: FakeGateway) -> None:
    gateway.on("POST /admin/v1/tenants/acme/keys", MADE_KEY, 201)
    result = run(gateway, "keys", "create", "acme")
    assert result.stdout == f"{KEY}\n"
    assert "not shown again" in result.stderr
    assert KEY not in result.stderr
    more = ["--scope", "inference", "--scope", "manage", "--name", "ci", "--expires", "2031-01-31"]
    assert json_of(run(gateway, "keys", "create", "acme", *more, "--json")) == MADE_KEY
    assert json.loads(gateway.asked[1].body) == {
        "name": "ci",
        "scopes": ["inference", "manage"],
        "expires_at": "2031-01-31T00:00:00+00:00",
    }


def test_keys_rotate(gateway: FakeGateway) -> None:
    made = {**MADE_KEY, "expires_at": "2031-01-31T12:00:00+00:00"}
    gateway.on("POST /admin/v1/tenants/acme/keys/ff00/rotate", made, 201)
    rotate = ["keys", "rotate", "acme", "ff00", "--overlap", "12h", "--reason", "due"]
    result = run(gateway, *rotate)
    assert result.stdout == f"{KEY}\n"
    assert "key ab12 of acme (inference) until 2031-01-31 12:00 UTC." in result.stderr
    assert "The old key, ff00, is refused 12h from now." in result.stderr
    assert json_of(run(gateway, *rotate, "--json")) == made
    assert json.loads(gateway.asked[0].body) == {"overlap_s": 43_200, "reason": "due"}


def test_keys_list_says_never_and_not_yet(gateway: FakeGateway) -> None:
    listed = {name: value for name, value in MADE_KEY.items() if name != "key"}
    used = {**listed, "expires_at": "2031-01-31T12:00:00Z", "last_used_at": MOMENT}
    gateway.on("GET /admin/v1/tenants/acme/keys", {"data": [listed, used]})
    lines = run(gateway, "keys", "list", "acme").stdout.splitlines()
    assert lines[1].split() == ["ab12", "key", "inference", "never", "not", "yet"]
    assert "2031-01-31 12:00  2026-01-31 12:00" in lines[2]


@pytest.mark.parametrize(
    "words",
    [
        ("create", "acme", "--expires", "soon"),
        ("create", "acme", "--expires", "30y"),
        ("rotate", "acme", "ab", "--overlap", "2031-01-31"),
        ("rotate", "acme", "ab", "--overlap", "999999999w"),
    ],
)
def test_a_time_that_is_none(gateway: FakeGateway, words: tuple[str, ...]) -> None:
    result = run(gateway, "keys", *words)
    assert result.exit_code == 2
    assert "write it like 30" in result.stderr
    assert gateway.asked == []


def test_an_unknown_scope_is_wrong_usage(gateway: FakeGateway) -> None:
    assert run(gateway, "keys", "create", "acme", "--scope", "root").exit_code == 2
    assert gateway.asked == []


def test_keys_revoke(gateway: FakeGateway) -> None:
    gateway.on("DELETE /admin/v1/tenants/acme/keys/ab12", b"", 204)
    assert run(gateway, "keys", "revoke", "acme", "ab12").stdout == "Revoked key ab12 of acme.\n"
    revoked = json_of(run(gateway, "keys", "revoke", "acme", "ab12", "--json"))
    assert revoked == {"id": "ab12", "revoked": True}


# adapters


@pytest.mark.parametrize(
    "words",
    [
        ("adapters", "show", "support"),
        ("adapters", "show", "acme/support@0"),
        ("adapters", "show", "acme/support@x"),
        ("adapters", "show", "Acme/support"),
        ("adapters", "show", "acme/../x"),
        ("adapters", "promote", "acme/support"),
        ("adapters", "rollback", "acme/support@3"),
        ("adapters", "rollback", "acme/support", "--to", "0"),
        ("adapters", "history", "acme/support@3"),
        ("adapters", "delete", "acme/support"),
        ("adapters", "pull", "acme"),
        ("adapters", "push", "acme/support@3", "."),
        ("adapters", "push", "acme/support", "no-such-folder"),
        ("adapters", "push", "acme/support", "ftp://host/adapter"),
        ("adapters", "push", "acme/support", ".", "--force"),
        ("adapters", "card", "acme/support"),
        ("adapters", "diff", "acme/support@1", "acme/support"),
        ("adapters", "evaluate", "acme/support@1"),
        ("adapters", "prove", "acme/support"),
        ("tenants", "import", "no-such-file"),
        ("tenants", "export", "../acme"),
    ],
)
def test_wrong_usage_asks_nothing_of_the_gateway(
    gateway: FakeGateway, words: tuple[str, ...]
) -> None:
    result = run(gateway, *words)
    assert result.exit_code == 2
    assert result.stderr
    assert gateway.asked == []


def test_push_sends_the_two_files(gateway: FakeGateway, folder: Path) -> None:
    gateway.on(f"POST {ADAPTER}/versions", VERSION, 201)
    result = run(gateway, "adapters", "push", "acme/support", str(folder))
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "Pushed acme/support@3 (candidate), digest abababababab.",
        "Next: loraplex adapters evaluate acme/support@3 --passed --report FILE",
        "  or: loraplex adapters promote acme/support@3 --force --reason WHY",
    ]
    assert result.stderr == ""
    assert gateway.asked[0].parts == {
        name: (folder / name).read_bytes()
        for name in ("adapter_config.json", "adapter_model.safetensors")
    }


def test_push_json_and_warnings(gateway: FakeGateway, folder: Path) -> None:
    gateway.on(f"POST {ADAPTER}/versions", {**VERSION, "warnings": ["another base"]}, 201)
    result = run(gateway, "adapters", "push", "acme/support", str(folder), "--json")
    assert json_of(result)["version"] == 3
    assert result.stderr == "warning: another base\n"


def test_push_and_promote(gateway: FakeGateway, folder: Path) -> None:
    gateway.on(f"POST {ADAPTER}/versions", VERSION, 201)
    gateway.on(f"POST {ADAPTER}/promote", {})
    gateway.on(f"GET {ADAPTER}/versions/3", {**VERSION, "state": "live"})
    result = run(gateway, "adapters", "push", "acme/support", str(folder), "--promote")
    assert result.stdout == "Pushed acme/support@3 (live), digest abababababab.\n"
    gateway.refuse(f"POST {ADAPTER}/promote", 409, "The engine refused it.")
    result = run(gateway, "adapters", "push", "acme/support", str(folder), "--promote")
    assert result.exit_code == 1
    expected = "acme/support@3 was pushed but not promoted: The engine refused it."
    assert result.stderr == f"error: {expected}\n"


def test_push_promotes_by_force_only_where_it_is_said(gateway: FakeGateway, folder: Path) -> None:
    gateway.on(f"POST {ADAPTER}/versions", VERSION, 201)
    gateway.on(f"POST {ADAPTER}/promote", {})
    gateway.on(f"GET {ADAPTER}/versions/3", {**VERSION, "state": "live"})
    push = ["adapters", "push", "acme/support", str(folder), "--promote", "--reason", "why"]
    run(gateway, *push)
    run(gateway, *push, "--force")
    moves = [json.loads(asked.body) for asked in gateway.asked if asked.path.endswith("promote")]
    assert moves == [
        {"version": 3, "reason": "why"},
        {"version": 3, "force": True, "reason": "why"},
    ]
    assert json.loads(gateway.asked[0].parts["metadata.json"]) == {"reason": "why"}


def test_push_with_lineage_and_evaluation(gateway: FakeGateway, folder: Path) -> None:
    gateway.on(f"POST {ADAPTER}/versions", {**VERSION, "state": "passed"}, 201)
    lineage, evaluation = folder / "lineage.yaml", folder / "evaluation.json"
    lineage.write_text("lineage:\n  dataset: d1\n  parent: 2\n")
    evaluation.write_text('{"verdict": "passed", "report": {"f1": 0.9}}')
    push = ["adapters", "push", "acme/support", str(folder), "--lineage", str(lineage)]
    result = run(gateway, *push, "--evaluation", str(evaluation))
    assert "Make it live: loraplex adapters promote acme/support@3" in result.stdout
    assert json.loads(gateway.asked[0].parts["metadata.json"]) == {
        "lineage": {"dataset": "d1", "parent": 2},
        "evaluation": {"verdict": "passed", "report": {"f1": 0.9}},
    }
    evaluation.write_text('{"verdict": "good"}')
    result = run(gateway, *push, "--evaluation", str(evaluation))
    assert result.exit_code == 1
    assert f"error: {evaluation}: evaluation.verdict: Input should be" in result.stderr
    assert len(gateway.asked) == 1


@pytest.mark.parametrize("source", ["s3://bucket/adapter", "hf://owner/adapter@main"])
def test_push_of_what_the_gateway_fetches(gateway: FakeGateway, source: str) -> None:
    gateway.on(f"POST {ADAPTER}/versions", VERSION, 201)
    result = run(gateway, "adapters", "push", "acme/support", source, "--reason", "why")
    assert result.exit_code == 0, result.output
    asked = json.loads(gateway.asked[0].body)
    assert asked == {"source": source, "metadata": {"reason": "why"}}


def profile_of(gateway: FakeGateway) -> Any:
    return json.loads(gateway.asked[-1].parts["metadata.json"])["serving_profile"]


def test_push_sends_the_folders_serving_profile(gateway: FakeGateway, folder: Path) -> None:
    gateway.on(f"POST {ADAPTER}/versions", VERSION, 201)
    profile = {"system_prompt": "Be brief.", "stop": ["END"]}
    text = json.dumps({"serving_profile": profile, "made_by": "x"})
    (folder / "metadata.json").write_text(text)
    run(gateway, "adapters", "push", "acme/support", str(folder))
    assert profile_of(gateway) == profile
    (folder / "metadata.json").write_text('{"made_by": "another tool"}')
    run(gateway, "adapters", "push", "acme/support", str(folder))
    assert "metadata.json" not in gateway.asked[-1].parts


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("profile.yaml", "system_prompt: Be brief.\n"),
        ("profile.yaml", "serving_profile:\n  system_prompt: Be brief.\n"),
        ("profile.json", '{"system_prompt": "Be brief."}'),
    ],
)
def test_push_with_a_profile_file(gateway: FakeGateway, folder: Path, name: str, text: str) -> None:
    gateway.on(f"POST {ADAPTER}/versions", VERSION, 201)
    file = folder / name
    file.write_text(text)
    run(gateway, "adapters", "push", "acme/support", str(folder), "--profile", str(file))
    assert profile_of(gateway) == {"system_prompt": "Be brief."}


def test_push_of_a_chat_template(gateway: FakeGateway, folder: Path) -> None:
    gateway.on(f"POST {ADAPTER}/versions", VERSION, 201)
    template = folder / "chat_template.jinja"
    template.write_text("{{ messages }}")
    push = ("adapters", "push", "acme/support", str(folder))
    result = run(gateway, *push)
    assert "chat_template.jinja was not sent" in result.stderr
    assert "metadata.json" not in gateway.asked[-1].parts
    assert run(gateway, *push, "--chat-template", "none").stderr == ""
    assert "metadata.json" not in gateway.asked[-1].parts
    assert run(gateway, *push, "--chat-template", str(template)).stderr == ""
    assert profile_of(gateway) == {"chat_template": "{{ messages }}"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"adapter_config.json": None}, "holds no adapter_config.json"),
        ({"adapter_model.safetensors": None}, "holds no adapter_model.safetensors"),
        (
            {"adapter_model.safetensors": None, "adapter_model.bin": "pickle"},
            "convert it, in the folder: python -c",
        ),
        ({"metadata.json": "{"}, "metadata.json: not JSON: "),
        ({"metadata.json": '{"serving_profile": 1}'}, "must be `field: value` pairs"),
        ({"metadata.json": '{"serving_profile": {"tone": 1}}'}, "serving_profile.tone: Extra"),
        (
            {"metadata.json": '{"serving_profile": {"sampling": {"top_p": 2}}}'},
            "serving_profile.sampling.top_p: Input should be less than or equal to 1",
        ),
    ],
)
def test_push_of_a_folder_that_cannot_be_served(
    gateway: FakeGateway, folder: Path, change: dict[str, str | None], said: str
) -> None:
    for name, text in change.items():
        if text is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text(text)
    result = run(gateway, "adapters", "push", "acme/support", str(folder))
    assert result.exit_code == 1
    assert said in result.stderr
    assert gateway.asked == []


def test_the_way_to_convert_a_pickle_works(gateway: FakeGateway, folder: Path) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").touch()
    said = run(gateway, "adapters", "push", "acme/support", str(folder)).stderr
    program = said.partition('python -c "')[2].rpartition('"')[0]
    # A transposed weight, since safetensors takes contiguous ones alone.
    save = "import torch; torch.save({'x': torch.zeros(4, 2).t()}, 'adapter_model.bin'); "
    subprocess.run([sys.executable, "-c", save + program], cwd=folder, check=True)
    gateway.on(f"POST {ADAPTER}/versions", VERSION, 201)
    assert run(gateway, "adapters", "push", "acme/support", str(folder)).exit_code == 0


def test_push_shows_its_progress_on_a_terminal(gateway: FakeGateway, folder: Path) -> None:
    gateway.on(f"POST {ADAPTER}/versions", VERSION, 201)
    words = ["adapters", "push", "acme/support", str(folder), "--url", gateway.url, "--key", KEY]
    shown = on_terminal(*words)
    assert "KiB" in shown
    assert "Pushed acme/support@3" in shown


def test_moves_of_the_live_version(gateway: FakeGateway) -> None:
    moved = {"tenant": "acme", "adapter": "support", "live": 3, "revision": 7, "versions": []}
    gateway.on(f"POST {ADAPTER}/promote", moved)
    gateway.on(f"POST {ADAPTER}/rollback", moved)
    said = "acme/support@3 is live (revision 7).\n"
    promote = ["adapters", "promote", "acme/support@3"]
    assert run(gateway, *promote).stdout == said
    every = ["--reason", "better", "--force", "--if-match", "6"]
    assert json_of(run(gateway, *promote, *every, "--json")) == moved
    assert run(gateway, "adapters", "rollback", "acme/support").stdout == said
    assert run(gateway, "adapters", "rollback", "acme/support", "--to", "2").stdout == said
    assert [json.loads(asked.body) for asked in gateway.asked] == [
        {"version": 3},
        {"version": 3, "force": True, "reason": "better"},
        {},
        {"to": 2},
    ]
    assert gateway.asked[1].headers["if-match"] == '"6"'


def test_adapters_delete(gateway: FakeGateway) -> None:
    gateway.on(f"DELETE {ADAPTER}/versions/3", b"", 204)
    delete = ["adapters", "delete", "acme/support@3"]
    assert run(gateway, *delete).stdout == "Deleted acme/support@3.\n"
    assert json_of(run(gateway, *delete, "--json"))["deleted"] is True


def test_adapters_evaluate(gateway: FakeGateway, tmp_path: Path) -> None:
    passed = {**VERSION, "state": "passed", "verdict": "passed"}
    gateway.on(f"POST {ADAPTER}/versions/3/evaluation", passed)
    report = tmp_path / "report.yaml"
    report.write_text("f1: 0.9\n")
    evaluate = ["adapters", "evaluate", "acme/support@3"]
    assert run(gateway, *evaluate, "--passed", "--report", str(report)).stdout.splitlines() == [
        "Recorded: acme/support@3 passed. It is passed.",
        "Make it live: loraplex adapters promote acme/support@3",
    ]
    gateway.on(f"POST {ADAPTER}/versions/3/evaluation", {**VERSION, "verdict": "rejected"})
    assert json_of(run(gateway, *evaluate, "--rejected", "--reason", "rude", "--json"))
    assert [json.loads(asked.body) for asked in gateway.asked] == [
        {"verdict": "passed", "report": {"f1": 0.9}},
        {"verdict": "rejected", "report": {}, "reason": "rude"},
    ]
    report.write_text("- a list")
    wrong = run(gateway, *evaluate, "--passed", "--report", str(report))
    assert wrong.exit_code == 1
    assert "it must be `field: value` pairs" in wrong.stderr


def test_adapters_prove(gateway: FakeGateway) -> None:
    gateway.on(f"POST {ADAPTER}/versions/3/prove", {**RECORD, "proof": "proved"})
    prove = ["adapters", "prove", "acme/support@3"]
    assert run(gateway, *prove).stdout.splitlines() == [
        "acme/support@3 is proved.",
        "It is 0.312 nats from the base, the base 0.00012 from itself (512 tokens).",
    ]
    figures = {**RECORD["proof_figures"], "reason": "lora_B is all zero"}
    inert = {**RECORD, "proof": "inert", "proof_figures": figures}
    gateway.on(f"POST {ADAPTER}/versions/3/prove", inert)
    assert run(gateway, *prove).stdout.splitlines()[2] == "lora_B is all zero"
    assert json_of(run(gateway, *prove, "--json")) == inert


def test_adapters_show_has_all_that_is_kept(gateway: FakeGateway) -> None:
    gateway.on(f"GET {ADAPTER}/versions/3", RECORD)
    shown = run(gateway, "adapters", "show", "acme/support@3").stdout
    for text in (
        "acme/support@3",
        "key:0123456789abcdef",
        "summary.alpha",
        "q_proj, v_proj",
        "lineage.base.name",
        "evaluation.report.scores.f1",
        "proof_figures.difference",
        "files.adapter_model.safetensors",
        "profile.stop",
    ):
        assert text in shown
    assert shown.startswith("version ")


def test_adapters_diff(gateway: FakeGateway) -> None:
    gateway.on(f"GET {ADAPTER}/versions/3", RECORD)
    other = {**RECORD, "version": 2, "created_at": "2025-01-31T12:00:00Z", "rank": 16}
    other["lineage"] = {**RECORD["lineage"], "dataset": "d1"}
    other["profile"] = {"system_prompt": "long " * 100}
    gateway.on(f"GET {ADAPTER}/versions/2", other)
    diff = ["adapters", "diff", "acme/support@2", "acme/support@3"]
    assert json_of(run(gateway, *diff, "--json")) == {
        "first": "acme/support@2",
        "second": "acme/support@3",
        "differences": [
            {"field": "rank", "first": 16, "second": 8},
            {"field": "lineage.dataset", "first": "d1", "second": None},
            {"field": "profile.system_prompt", "first": "long " * 100, "second": None},
            {"field": "profile.stop", "first": None, "second": ["END"]},
        ],
    }
    shown = run(gateway, *diff).stdout
    assert "(500 characters; --json has all)" in " ".join(shown.split())
    same = run(gateway, "adapters", "diff", "acme/support@3", "acme/support@3")
    assert (same.exit_code, same.stdout) == (0, "")
    assert same.stderr == "acme/support@3 and acme/support@3 do not differ.\n"


def test_adapters_card_is_markdown_for_a_file(gateway: FakeGateway) -> None:
    gateway.on(f"GET {ADAPTER}/versions/3/card", b"# [bold] {wide}\n" + b"x" * 200)
    card = ["adapters", "card", "acme/support@3"]
    text = "# [bold] {wide}\n" + "x" * 200
    assert run(gateway, *card).stdout == f"{text}\n"
    assert json_of(run(gateway, *card, "--json")) == {"card": text}


# the installation


def test_gc(gateway: FakeGateway) -> None:
    done = {"removed": ["ab" * 32], "freed_bytes": 2048, "kept": 3, "purged_tenants": ["acme"]}
    gateway.on("POST /admin/v1/gc", done)
    assert run(gateway, "gc", "--grace", "2h").stdout.splitlines() == [
        "Removed 1 artifact, 2.0 KiB; kept 3.",
        "Deleted for good, with their versions: acme.",
    ]
    assert json_of(run(gateway, "gc", "--json")) == done
    assert [json.loads(asked.body) for asked in gateway.asked] == [{"grace_s": 7200}, {}]


def test_verify_ends_with_1_where_something_is_damaged(gateway: FakeGateway) -> None:
    gateway.on("POST /admin/v1/verify", {"checked": 2, "damaged": []})
    assert run(gateway, "verify").stdout == "Checked 2 artifacts: none damaged.\n"
    damaged = {"version": "acme/support@3", "digest": "ab" * 32, "damage": "missing"}
    gateway.on("POST /admin/v1/verify", {"checked": 2, "damaged": [damaged]})
    result = run(gateway, "verify")
    assert result.exit_code == 1
    assert "Checked 2 artifacts: 1 damaged." in result.stdout
    assert "acme/support@3  missing  abababababab" in result.stdout
    result = run(gateway, "verify", "--json")
    assert (result.exit_code, json.loads(result.stdout)["damaged"]) == (1, [damaged])


def test_audit_pages(gateway: FakeGateway) -> None:
    entry = {
        "id": 7,
        "at": MOMENT,
        "actor": "admin",
        "action": "tenant.create",
        "tenant": "acme",
        "target": "acme",
        "detail": {"reason": None},
    }
    other = {**entry, "target": "support@1", "detail": {"reason": "better"}}
    gateway.on("GET /admin/v1/audit", {"data": [entry]})
    result = run(gateway, "audit", "--limit", "1", "--before", "8")
    assert result.stderr == "Older ones: loraplex audit --before 7\n"
    assert result.stdout.splitlines()[1].split() == [
        *("7", "2026-01-31", "12:00", "admin", "tenant.create", "acme"),
    ]
    assert gateway.asked[0].query == "limit=1&before=8"
    gateway.on("GET /admin/v1/audit", {"data": [other]})
    result = run(gateway, "audit")
    assert result.stderr == ""
    assert result.stdout.rstrip().endswith("  acme/support@1: better")


def test_a_failure_of_the_gateways_names_the_request(gateway: FakeGateway) -> None:
    headers = {"x-request-id": "r1"}
    gateway.refuse("POST /admin/v1/gc", 507, "The disk is full.", headers=headers)
    said = "error: The disk is full. (request r1 in the gateway's log)\n"
    assert run(gateway, "gc").stderr == said
    gateway.refuse("POST /admin/v1/gc", 400, "grace_s: no.", headers=headers)
    assert run(gateway, "gc").stderr == "error: grace_s: no.\n"


# status


def test_status_not_ready_is_exit_code_1(gateway: FakeGateway) -> None:
    gateway.on("GET /readyz", {"status": "not_ready", "reason": "engine starting: no answer"}, 503)
    gateway.on("GET /admin/v1/engines", {"data": []})
    result = run(gateway, "status")
    assert result.exit_code == 1
    assert "The gateway is not ready: engine starting: no answer" in result.stdout
    result = run(gateway, "status", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["reason"] == "engine starting: no answer"
