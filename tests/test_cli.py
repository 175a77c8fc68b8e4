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
    "rank": 8,
    "size_bytes": 1_500_000,
    "warnings": [],
    "profile": {"system_prompt": None, "sampling": {}, "stop": ["END"], "chat_template": None},
    "created_at": "2026-01-31T12:00:00+00:00",
}
LONG = "n" * 63


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
    [("loraplex ada", "adapters"), ("loraplex adapters prom", "promote")],
)
def test_shell_completion(line: str, expected: str) -> None:
    done = run_process(
        _LORAPLEX_COMPLETE="complete_bash",
        COMP_WORDS=line,
        COMP_CWORD=str(len(line.split()) - 1),
    )
    assert done.stdout.split() == [expected]


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
    created = {"created_at": "2026-01-31T12:00:00+00:00"}
    gateway.on(
        "GET /admin/v1/tenants",
        {"data": [{"name": LONG, "policy": {"allow_base": True}, **created}]},
    )
    gateway.on(
        f"GET /admin/v1/tenants/{LONG}/keys",
        {"data": [{"id": "ab" * 8, "name": LONG, "scopes": ["inference", "manage"], **created}]},
    )
    adapter = {"tenant": LONG, "adapter": LONG, "live": 3, "revision": 7, "versions": [VERSION]}
    gateway.on(f"GET /admin/v1/tenants/{LONG}/adapters", {"data": [adapter]})
    path = f"/admin/v1/tenants/{LONG}/adapters/{LONG}"
    gateway.on(f"GET {path}/versions", {"data": [VERSION]})
    gateway.on(f"GET {path}/versions/3", {**VERSION, "warnings": ["w " * 80]})
    entry = {
        "at": "2026-01-31T12:00:00+00:00",
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


READS = [
    ("tenants", "list"),
    ("keys", "list", LONG),
    ("adapters", "list"),
    ("adapters", "list", LONG),
    ("adapters", "show", f"{LONG}/{LONG}"),
    ("adapters", "show", f"{LONG}/{LONG}@3"),
    ("adapters", "history", f"{LONG}/{LONG}"),
    ("status",),
]


@pytest.mark.parametrize("words", READS, ids=" ".join)
def test_tables_fit_80_columns_without_colours_on_a_pipe(
    gateway: FakeGateway, words: tuple[str, ...]
) -> None:
    full_gateway(gateway)
    environ = {"LORAPLEX_URL": gateway.url, "LORAPLEX_KEY": KEY}
    done = run_process(*words, **environ)
    assert done.returncode == 0, done.stderr
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
    tenant = {"name": "acme", "policy": {"allow_base": True}, "created_at": "2026-01-31T12:00:00Z"}
    gateway.on("POST /admin/v1/tenants", tenant, 201)
    gateway.on("DELETE /admin/v1/tenants/acme", b"", 204)
    assert run(gateway, "tenants", "create", "acme").stdout.startswith("Created tenant acme.")
    assert json_of(run(gateway, "tenants", "create", "acme", "--json")) == tenant
    assert run(gateway, "tenants", "delete", "acme").stdout == "Deleted tenant acme.\n"
    deleted = json_of(run(gateway, "tenants", "delete", "acme", "--json"))
    assert deleted == {"name": "acme", "deleted": True}


def test_a_refusal_is_exit_code_1(gateway: FakeGateway) -> None:
    gateway.refuse("POST /admin/v1/tenants", 409, "Tenant acme is there already.")
    result = run(gateway, "tenants", "create", "acme", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: Tenant acme is there already.\n"


def test_a_key_is_shown_alone_on_stdout_with_a_note_beside(gateway: FakeGateway) -> None:
    made = {"id": "ab12", "name": "", "scopes": ["inference"], "created_at": "x", "key": KEY}
    gateway.on("POST /admin/v1/tenants/acme/keys", made, 201)
    result = run(gateway, "keys", "create", "acme")
    assert result.stdout == f"{KEY}\n"
    assert "not shown again" in result.stderr
    assert KEY not in result.stderr
    scopes = ["--scope", "inference", "--scope", "manage", "--name", "ci"]
    assert json_of(run(gateway, "keys", "create", "acme", *scopes, "--json")) == made
    assert json.loads(gateway.asked[1].body) == {"name": "ci", "scopes": ["inference", "manage"]}


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
        ("adapters", "push", "acme/support", "s3://bucket/adapter"),
        ("adapters", "push", "acme/support", "hf://owner/adapter"),
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
        "Make it live: loraplex adapters promote acme/support@3",
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
        ({"metadata.json": "{"}, "neither JSON nor YAML"),
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
