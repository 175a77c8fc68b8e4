"""`loraplex loadtest` against a fake engine over HTTP: files, words, exit codes."""

import base64
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from loadtest.command.entry import main
from loadtest.report.result import Result, read_result, write_result
from loadtest.running.run import run
from loadtest.statistics.probes import probe_of
from loadtest.statistics.rows import ROW
from tests.fake_engine import FakeEngine
from tests.http_server import serving
from tests.load_results import result_of, some

ROOT = Path(__file__).parents[1]
ROUTE = "/v1/chat/completions"
KEY = "sk-secret-of-acme"
QUICK = ("--prompt-tokens", "4", "--max-tokens", "3")
BURST = ("--rate", "inf", "--requests", "20")


@pytest.fixture(scope="module")
def shared() -> Iterator[FakeEngine]:
    """An engine that no test changes."""
    engine = FakeEngine.start("--first-token-time-s", "0.01", "--token-time-s", "0.001")
    yield engine
    engine.stop()


@pytest.fixture(autouse=True)
def _outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In an empty folder, without the person's own settings."""
    monkeypatch.chdir(tmp_path)
    for name in ("LORAPLEX_URL", "LORAPLEX_KEY"):
        monkeypatch.delenv(name, raising=False)


def call(*args: str | Path) -> int:
    """The command's exit code."""
    with pytest.raises(SystemExit) as end:
        main([str(arg) for arg in args])
    code = end.value.code
    assert isinstance(code, int)
    return code


def result_in(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "result.json").read_text())
    assert isinstance(found, dict)
    return found


def ran(engine: FakeEngine | str, *args: str | Path) -> tuple[int, dict[str, Any]]:
    """A short run without a page: its exit code and result."""
    url = engine if isinstance(engine, str) else engine.url
    code = call("--url", url, *QUICK, *args, "--no-report", "--out", "out")
    return code, result_in(Path("out"))


def test_the_contract_of_files_and_fields(shared: FakeEngine, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    code = call(
        "--url", shared.url, "--key", KEY, "--model", "base", "--rate", "40", "--duration", "1",
        "--stream", "--max-tokens", "4", "--slo", "ttft=60s,itl=60s", "--out", out,
    )  # fmt: skip
    assert code == 0
    result = result_in(out)
    requests = result["requests"]
    assert requests["sent"] == requests["ok"] > 0
    assert requests["failed"] == 0
    for figure in ("ttft_s", "itl_s", "e2e_s"):
        assert {"p50", "p90", "p95", "p99", "max", "mean"} <= result[figure].keys()
        assert 0 < result[figure]["p50"] <= result[figure]["max"]
    assert {"requests_per_s", "output_tokens_per_s"} <= result["throughput"].keys()
    assert {"lag_p99_s", "bound"} <= result["tester"].keys()
    assert result["goodput"]["share"] == 1
    assert (out / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")
    assert [*out.glob("*.csv")]
    for file in out.iterdir():
        assert KEY.encode() not in file.read_bytes()
    assert not [*out.glob("*.part"), *out.glob(".*")]


def test_with_the_url_alone_the_only_model_is_asked(
    shared: FakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LORAPLEX_URL", shared.url)
    assert call(*QUICK, "--requests", "2", "--rate", "100", "--no-report") == 0
    said = capsys.readouterr()
    assert "--model is left out: asking for the server's only one, `base`" in said.err
    (folder,) = Path().glob("loadtest-*")
    result = result_in(folder)
    assert [*result["models"]] == ["base"]
    assert result["workload"]["arrivals"]["kind"] == "poisson"


def test_of_several_models_none_is_chosen_for_the_user(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serving(_guarded) as port:
        assert call("--url", f"http://127.0.0.1:{port}", "--key", KEY) == 2
    words = "error: --model: is missing; the server has `base`, `support`\n"
    assert capsys.readouterr().err == words


def test_why_no_model_is_known_is_told(
    shared: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--url", f"{shared.url}/wrong") == 2
    words = f"{shared.url}/wrong answered 404 to GET /v1/models; is --url right?"
    assert words in capsys.readouterr().err


def test_json_is_all_that_is_printed(
    shared: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    code, result = ran(shared, "--model", "base", *BURST, "--json", "--name", "first")
    assert code == 0
    said = json.loads(capsys.readouterr().out)
    assert result["name"] == said["name"] == "first"
    assert said["out"] == "out"
    assert result.keys() - said.keys() == {"rows", "histograms", "timeline"}
    assert said["requests"]["ok"] == 20


def test_the_key_may_come_from_a_file_or_the_environment(
    shared: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    shared.control(forget_calls=True)
    ran(shared, "--model", "base", "--rate", "inf", "--requests", "1", "--key-file", file)
    monkeypatch.setenv("LORAPLEX_KEY", "from-the-environment")
    ran(shared, "--model", "base", "--rate", "inf", "--requests", "1", "--overwrite")
    sent = [one["headers"]["authorization"] for one in shared.calls(ROUTE)]
    assert sent == [f"Bearer {KEY}", "Bearer from-the-environment"]


def test_tenants_ask_with_their_own_keys(shared: FakeEngine, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("acme=key-of-acme\nglobex=key-of-globex\n")
    shared.control(forget_calls=True)
    code, result = ran(
        shared, "--model", "base", "--keys-file", keys, *BURST, "--tenant-choice", "round_robin"
    )
    assert code == 0
    assert {name: one["requests"]["ok"] for name, one in result["tenants"].items()} == {
        "acme": 10,
        "globex": 10,
    }
    used = {one["headers"]["authorization"] for one in shared.calls(ROUTE)}
    assert used == {"Bearer key-of-acme", "Bearer key-of-globex"}
    assert "key-of" not in Path("out/result.json").read_text()


def test_options_change_the_workloads_file(shared: FakeEngine, tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(
        "seed: 3\nmodels: [base]\narrivals: {kind: constant, stages: [{rate: 5, seconds: 60}]}\n"
        "mix: [{prompts: {kind: synthetic, tokens: 9}, extra: {temperature: 0}}]\n"
    )
    shared.control(forget_calls=True)
    code = call(
        "--url", shared.url, "--workload", file, "--rate", "100", "--duration", "0.1",
        "--max-tokens", "2", "--ignore-eos", "--no-report", "--out", "out",
    )  # fmt: skip
    assert code == 0
    workload = result_in(Path("out"))["workload"]
    assert workload["seed"] == 3
    assert workload["arrivals"] == {"kind": "constant", "stages": [{"rate": 100, "seconds": 0.1}]}
    body = shared.calls(ROUTE)[0]["body"]
    assert (body["temperature"], body["ignore_eos"], body["max_tokens"]) == (0, True, 2)
    assert len(shared.calls(ROUTE)) == 10


def test_nothing_listens_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--url", "http://127.0.0.1:1", "--model", "base", "--out", "out") == 1
    said = capsys.readouterr()
    assert said.err == (
        "error: http://127.0.0.1:1 cannot be reached: nothing listens there; start the server, or"
        " check --url\n"
    )
    assert not Path("out").exists()


async def _guarded(scope: Any, receive: Any, send: Any) -> None:
    """A server of two models that wants KEY."""
    given = dict(scope["headers"]).get(b"authorization")
    status = 200 if given == f"Bearer {KEY}".encode() else 401
    models = {"object": "list", "data": [{"id": "base"}, {"id": "support"}]}
    head = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": json.dumps(models).encode()})


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "it wants a key; give --key-file, --key or LORAPLEX_KEY"),
        (("--key", "wrong"), "it does not take the key; check --key, --key-file or LORAPLEX_KEY"),
    ],
)
def test_a_wrong_key_ends_it_before_anything_is_sent(
    args: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(_guarded) as port:
        code = call(
            "--url",
            f"http://127.0.0.1:{port}",
            *args,
            "--model",
            "base",
            "--duration",
            "1",
            "--out",
            "out",
        )
    assert code == 1
    said = f"error: http://127.0.0.1:{port} answered 401: {words}\n"
    assert capsys.readouterr().err == said
    assert not Path("out").exists()


def test_the_tenant_whose_key_is_wrong_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"acme={KEY}\nglobex=wrong\n")
    with serving(_guarded) as port:
        url = f"http://127.0.0.1:{port}"
        assert call("--url", url, "--model", "base", "--duration", "1", "--keys-file", keys) == 1
    words = "it does not take the key of tenant `globex`; check --keys-file"
    assert words in capsys.readouterr().err


def test_a_server_that_hangs_up_may_want_tls(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert call("--url", url, "--model", "base", "--out", "out") == 1
        thread.join()
    assert capsys.readouterr().err == (
        f"error: {url} cannot be reached: what answers there is no HTTP server; check --url, or is"
        " it https:// there?\n"
    )


def test_an_unknown_model_is_told_with_those_there_are(
    shared: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    code, result = ran(shared, "--model", "nope", *BURST)
    assert code == 1
    assert result["ended"] == "target"
    assert result["problem"] == (
        f"{shared.url} answered 404 (NotFoundError): it has no model `nope`; check --model; the"
        " server has `base`"
    )
    said = capsys.readouterr()
    assert "warning: the server does not list `nope`; it has `base`" in said.err


def test_a_wrong_path_is_told(shared: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    code, result = ran(f"{shared.url}/wrong", "--model", "base", *BURST)
    assert (code, result["ended"]) == (1, "target")
    assert "it does not know the path; check --url" in result["problem"]
    words = f"warning: {shared.url}/wrong answered 404 to GET /v1/models; is --url right?"
    assert words in capsys.readouterr().err


def test_some_errors_are_counted_and_judged(
    fake_engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_engine.control(status=500, faulty_calls=10)
    args = ("--model", "base", "--rate", "inf", "--requests", "100", "--json")
    code, result = ran(fake_engine, *args, "--fail-if", "errors > 20%")
    assert code == 0
    assert result["requests"]["failed"] == 10
    assert "warning: 10 of 100 requests failed (10.0%): 10 " in capsys.readouterr().err
    fake_engine.control(status=500, faulty_calls=10)
    code, result = ran(fake_engine, *args, "--fail-if", "errors > 5%", "--overwrite")
    assert code == 1
    words = "error: --fail-if errors > 5%: errors is 10.00%"
    assert words in capsys.readouterr().err
    assert result["conditions"][0]["failed"] is True


def test_without_any_answer_it_failed(fake_engine: FakeEngine) -> None:
    fake_engine.control(status=503)
    code, result = ran(fake_engine, "--model", "base", *BURST)
    assert code == 1
    assert (result["ended"], result["requests"]["failed"]) == ("completed", 20)


def test_an_answer_that_does_not_come_is_given_up(fake_engine: FakeEngine) -> None:
    fake_engine.control(headers_time_s=30.0, faulty_calls=1)
    code, result = ran(fake_engine, "--model", "base", *BURST, "--timeout", "0.5")
    assert code == 0
    assert result["requests"]["outcomes"] == {"ok": 19, "timeout": 1}


def test_ctrl_c_leaves_the_report_of_what_was_run(fake_engine: FakeEngine, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "loadtest", "--url", fake_engine.url, "--model", "base", *QUICK,
        "--rate", "50", "--duration", "60", "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            fake_engine.wait_for(lambda state: len(state["calls"]) > 20, deadline_s=60)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert "Interrupted by the user after" in out
    result = result_in(tmp_path / "out")
    assert result["ended"] == "interrupted"
    assert result["requests"]["ok"] >= 10
    assert (tmp_path / "out" / "report.html").exists()


def test_a_fault_of_the_testers_own_keeps_what_was_measured(
    shared: FakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaking(*args: Any, **options: Any) -> None:
        run(*args, **options)
        raise RuntimeError("-".join(("a", "prompt")))

    monkeypatch.setattr("loadtest.command.single.run", breaking)
    code, result = ran(shared, "--model", "base", *BURST, "--json")
    assert code == 1
    assert result["requests"]["ok"] == 20
    words = "the tester failed (RuntimeError); the figures are those of what was run"
    assert result["problem"] == words
    said = capsys.readouterr().err
    assert f"error: {words}" in said
    assert "a-prompt" not in said


def test_a_report_that_cannot_be_made_leaves_the_result(
    shared: FakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: Any) -> str:
        raise ValueError("no plot")

    monkeypatch.setattr("loadtest.report.page.page", broken)
    assert call("--url", shared.url, "--model", "base", *QUICK, *BURST, "--out", "out") == 1
    assert result_in(Path("out"))["requests"]["ok"] == 20
    words = "error: the report could not be made (ValueError); result.json is whole"
    assert words in capsys.readouterr().err


def test_a_full_disk_does_not_cost_the_figures(
    shared: FakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("loadtest.report.page.page", full)
    args = ("--url", shared.url, "--model", "base", *QUICK, *BURST)
    assert call(*args, "--out", "late") == 1
    said = capsys.readouterr()
    words = "error: the report could not be made (No space left on device); result.json is whole"
    assert words in said.err
    assert "\nresult.json and tables: late\n" in said.err
    monkeypatch.setattr("loadtest.command.ending.write_result", full)
    assert call(*args, "--out", "early") == 1
    said = capsys.readouterr()
    assert "All 20 requests were answered" in said.out
    assert "error: --out: early cannot be written (No space left on device); no file" in said.err
    assert "tables:" not in said.err


@pytest.mark.parametrize("how", [(), ("--json",)])
def test_an_output_that_cannot_be_written_is_told(shared: FakeEngine, how: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        args = ("--url", shared.url, "--model", "base", *QUICK, *BURST, "--no-report", *how)
        done = subprocess.run(
            [sys.executable, "-m", "loadtest", *args, "--out", "out"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    words = "error: the result cannot be printed (No space left on device); out holds its files\n"
    assert done.stderr.endswith(words)


def test_the_page_of_a_result_that_is_replaced_goes(shared: FakeEngine) -> None:
    args = ("--url", shared.url, "--model", "base", *QUICK, *BURST, "--out", "out")
    Path("out").mkdir()
    Path("out/report.html").touch()
    assert call(*args, "--no-report") == 0
    assert not Path("out/report.html").exists()


def test_a_file_is_no_folder(shared: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").touch()
    assert call("--url", shared.url, "--model", "base", *BURST, "--out", "out") == 1
    assert "error: --out: out is a file; give a folder\n" in capsys.readouterr().err


def test_one_ctrl_c_more_does_not_cost_the_result(
    shared: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disturbed(result: Result, folder: Path) -> Path:
        os.kill(os.getpid(), signal.SIGINT)
        return write_result(result, folder)

    def impatient(_: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("loadtest.command.ending.write_result", disturbed)
    monkeypatch.setattr("loadtest.report.page.page", impatient)
    assert call("--url", shared.url, "--model", "base", *QUICK, *BURST, "--out", "out") == 1
    assert result_in(Path("out"))["requests"]["ok"] == 20


def test_an_earlier_result_is_not_replaced_by_accident(
    shared: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(shared, "--model", "base", *BURST)
    before = Path("out/result.json").read_bytes()
    assert call("--url", shared.url, "--model", "base", "--out", "out") == 2
    words = "error: --out: out holds a result already; give another folder, or --overwrite\n"
    assert capsys.readouterr().err.endswith(words)
    assert Path("out/result.json").read_bytes() == before
    assert ran(shared, "--model", "base", *BURST, "--overwrite")[0] == 0
    assert Path("out/result.json").read_bytes() != before


def _slower(result: Result, by_s: float) -> Result:
    """The same run with each first token so much later."""
    table = result.table()
    for column in ("ttft_s", "e2e_s", "ended_s"):
        table[column] += by_s
    columns = b"".join(table[name].tobytes() for name in ROW.names or ())
    data = base64.b64encode(zlib.compress(columns)).decode()
    return result.model_copy(update={"rows": result.rows | {"data": data}})


def test_two_runs_side_by_side(shared: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    run_a = ("--url", shared.url, "--model", "base", *QUICK, "--rate", "inf", "--requests", "60")
    assert call(*run_a, "--no-report", "--out", "a") == 0
    Path("b").mkdir()
    write_result(_slower(read_result(Path("a")), 0.1), Path("b"))
    capsys.readouterr()
    assert call("--compare", "a/result.json", "b", "--json", "--out", "both") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads(Path("both/comparison.json").read_text())
    assert told["paired"]
    changed = {one["figure"]: one["direction"] for one in told["differences"]}
    assert changed["ttft_p50"] == "worse"
    assert Path("both/comparison.html").exists()
    assert call("--compare", "a", "b", "--fail-if-worse", "ttft_p50 by 1%") == 1
    words = "error: --fail-if-worse ttft_p50 by 1%: ttft_p50 is worse by +"
    assert words in capsys.readouterr().err
    assert call("--compare", "b", "a", "--fail-if-worse", "ttft_p50") == 0
    assert call("--compare", "a", "b", "--fail-if-worse", "errors") == 0
    assert call("--compare", "a", "a", "--fail-if-worse", "any") == 0


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("histograms", "the page could not be made (KeyError): a result.json is damaged"),
        ("rows", "--compare: b: rows: the file is damaged (of_requests)"),
    ],
)
def test_a_damaged_result_is_told_without_a_trace(
    field: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = result_of(some(40))
    told = whole.model_dump(mode="json")
    if field == "rows":
        del told["rows"]["of_requests"]
    else:
        told["histograms"]["ttft_s"] = {}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    write_result(whole, tmp_path / "a")
    (tmp_path / "b" / "result.json").write_text(json.dumps(told))
    assert call("--compare", "a", "b", "--out", "both") in (1, 2)
    assert words in capsys.readouterr().err
    assert not Path("both/comparison.html").exists()


def test_runs_too_short_to_tell_do_not_pass(
    shared: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("--url", shared.url, "--model", "base", *QUICK, "--rate", "inf", "--requests", "4")
    for name in ("a", "b"):
        assert call(*args, "--no-report", "--out", name) == 0
    for figure in ("ttft_p95", "any"):
        assert call("--compare", "a", "b", "--fail-if-worse", figure) == 1
        words = f"error: --fail-if-worse {figure}: the runs have too few requests to tell; run both"
        assert words in capsys.readouterr().err


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches whose outcome hangs on no timing of this machine."""
    monkeypatch.setattr("loadtest.running.search.SETTLE_S", 0.0)
    monkeypatch.setattr("loadtest.running.tester.LATE_S", 60.0)
    monkeypatch.setattr("loadtest.running.tester.CPU_SHARE", 60.0)
    monkeypatch.setattr("loadtest.statistics.probes.piles_up", lambda *_: False)


@pytest.mark.usefixtures("unhurried")
def test_the_knee_is_searched_between_bounds(shared: FakeEngine) -> None:
    knee = ("--find-knee", "--slo", "ttft=60s", "--probe", "500ms", "--bounds", "40..80")
    args = ("--rate", "40", "--arrivals", "constant", "--most-probes", "3")
    code, result = ran(shared, "--model", "base", *knee, *args)
    assert code == 0
    found = result["knee"]
    assert [level["rate"] for level in found["levels"]] == [40, 80]
    assert (found["knee"]["rate"], found["figures_of_rate"]) == (80, 80)
    assert found["knee"]["found"] is False
    assert result["requests"]["ok"] > 20


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("probes", [0, 1])
def test_a_fault_in_a_search_keeps_the_probes_before(
    shared: FakeEngine,
    probes: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    done: list[int] = []

    def breaking(*args: Any, **options: Any) -> Any:
        if len(done) == probes:
            raise RuntimeError("-".join(("a", "prompt")))
        done.append(1)
        return probe_of(*args, **options)

    monkeypatch.setattr("loadtest.running.search.probe_of", breaking)
    knee = ("--find-knee", "--slo", "ttft=60s", "--probe", "500ms", "--rate", "40")
    args = ("--url", shared.url, "--model", "base", *QUICK, *knee, "--no-report", "--out", "out")
    assert call(*args) == 1
    said = capsys.readouterr()
    assert "the tester failed (RuntimeError)" in said.err
    assert "a-prompt" not in said.err + said.out
    assert Path("out").exists() == bool(probes)
    if probes:
        assert result_in(Path("out"))["knee"]["knee"]["probes"] == 1


def test_a_search_that_ends_before_its_first_probe_was_interrupted(
    shared: FakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def impatient(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("loadtest.running.search._Prober.probe", impatient)
    knee = ("--find-knee", "--slo", "ttft=60s", "--probe", "500ms")
    assert call("--url", shared.url, "--model", "base", *QUICK, *knee) == 130
    assert "error: interrupted; nothing was measured" in capsys.readouterr().err
    assert [*Path().iterdir()] == []


@pytest.mark.usefixtures("unhurried")
def test_a_knee_below_all_rates_is_a_failure(
    shared: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    knee = ("--find-knee", "--slo", "ttft=1ms", "--probe", "500ms", "--bounds", "20..21")
    code, result = ran(shared, "--model", "base", *knee, "--rate", "20", "--json")
    assert code == 1
    assert result["knee"]["knee"]["rate"] is None
    words = "error: --find-knee: 20 did not, the lowest rate allowed"
    assert words in capsys.readouterr().err


def test_a_dry_run_shows_the_schedule_and_no_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    args = ("--dry-run", "--model", "adapter-{1..2}", "--turns", "2", "--requests", "8")
    assert call(*args, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["requests"]) == 8
    assert {one["model"] for one in told["requests"]} <= {"adapter-1", "adapter-2"}
    assert not any("body" in one for one in told["requests"])
    assert call(*args, "--users", "2") == 0
    assert "an answer" in capsys.readouterr().out
    assert [*Path().iterdir()] == []


def test_a_terminal_without_the_letters_gets_question_marks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdout", plain := TextIOWrapper(BytesIO(), encoding="ascii"))
    assert call("--url", "http://nowhere", "--model", "bär", *QUICK, "--dry-run") == 0
    plain.flush()
    plain.seek(0)
    assert "b?r" in plain.read()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("--rate ten", "--rate: `ten` does not fit; give a number, steps as 5,10,20 or a ramp"),
        ("--rate 0", "--rate: nothing would be sent; give one above 0"),
        ("--rate inf", "--rate: inf sends all at once; say how many with --requests"),
        ("--rate 5,inf --requests 3", "--rate: inf stands alone, without other steps"),
        ("--rate 5,9 --requests 3", "--rate: steps need a time each; give --duration, or"),
        ("--rate 1..9 --requests 3", "--rate: a ramp needs a time; give --duration, or 1..50@2m"),
        ("--rate 1 --users 2", "--users: stands beside --rate; keep one of them"),
        ("--users 1.5", "--users: `1.5`: users are whole numbers"),
        ("--duration soon", "--duration: `soon` is no time; give it as 90s, 500ms, 2m or 1h"),
        ("--arrivals gamma", "--arrivals: gamma needs --burstiness; 0.5 comes in bursts"),
        ("--burstiness 0", "--burstiness: must be more than 0; below 1 comes in bursts"),
        ("--arrivals constant --burstiness 2", "--burstiness: constant has none; give"),
        ("--burstiness 2 --users 3", "--burstiness: has no meaning here; it goes with --rate"),
        ("--think 3", "--think: has no meaning here; it goes with --users or --turns"),
        ("--users 2 --think exponential:-1", "--think: mean: it must be greater than 0"),
        ("--speed 2", "--speed: has no meaning here; it goes with --trace"),
        ("--trace x.csv --speed 0", "--speed: must be more than 0; 2 is twice as fast"),
        ("--max-tokens many", "--max-tokens: `many` does not fit; give a number, uniform:"),
        ("--max-tokens 0", "--max-tokens: 0 does not fit; give a whole number from 1"),
        ("--prompt-tokens lognormal:512", "--prompt-tokens: sd: is missing"),
        ("--prompt-tokens uniform:9,3", "--prompt-tokens: low: 9 is above high (3)"),
        ("--prompt-tokens 9 --prompts x.jsonl", "--prompt-tokens: real prompts have their own"),
        ("--prompts a.jsonl,col=3", "--prompts: `col=3` does not fit; give column=NAME or"),
        ("--prompts nowhere.jsonl", "nowhere.jsonl: cannot be read (No such file or directory)"),
        ("--prefix x", "--prefix: `x` does not fit; give TOKENS, as 200, 200x8 or 200/tenant"),
        ("--turns recorded", "--turns: recorded turns are those of conversations; give --prompts"),
        ("--extra {", "--extra: is not JSON"),
        ("--extra [1]", "--extra: is no JSON object; write it as '{\"top_p\": 0.9}'"),
        ('--extra {"model":1}', "--extra: the tester sets `model` itself; take it out"),
        ("--model-choice best", "--model-choice: `best` does not fit; give uniform, zipf:"),
        ("--keys-file nowhere", "--keys-file: nowhere cannot be read (No such file or directory)"),
        ("--header secret", "--header: one is not NAME:VALUE; write it so"),
        ("--key a\tb", "--key: holds spaces, lines or marks that no key has"),
        ("--key-file nowhere", "--key-file: nowhere cannot be read (No such file or directory)"),
        ("--key a --key-file b", "--key-file: stands beside --key; keep one of them"),
        ("--insecure", "--insecure: has no meaning with http://; leave it out, or check --url"),
        ("--slo ttft=5", "--slo ttft: `5` has no unit; write 5ms, 5s or 5us"),
        ("--fail-if tfft_p95>4ms", "--fail-if: `tfft_p95` is no figure; did you mean `ttft_p95`?"),
        ("--fail-if goodput<0.9", "--fail-if: `goodput` needs objectives; give --slo"),
        ("--warmup 60", "--warmup: warm-up and cool-down take all of the run's 60 s; shorten them"),
        ("--cooldown 1 --requests 5", "--cooldown: the schedule has no end in time; give it sec"),
        ("--cooldown 1 --requests 5", "or --duration"),
        ("--rate 0 --requests 5", "--rate: nothing would be sent; give one above 0"),
        ("--timeout 0", "--timeout: `0` is no time; give it as 90s, 500ms, 2m or 1h"),
        ("--tokenizer nowhere", "--tokenizer: "),
        ("--push-label x", "--push-label: one is not NAME=VALUE; write it so"),
        ("--push gateway:9091", "--push: the address is none; write http://HOST:9091"),
        ("--push http://x --push-label job=a", "--push-label: `job` is one of the figures' own"),
        ("--price-per-hour inf", "--price-per-hour: is no price; give a number, as 2.5"),
        ("--name \udcff", "--name: is not UTF-8; write it so"),
        ("--tenant a --tenant \udcff", "--tenant: is not UTF-8; write it so"),
        ("--push-label a=b", "--push-label: has no meaning without --push URL"),
        ("--push host:9091", "--push: the address is none; write http://HOST:9091"),
        ("--push http://h --push-label 9=b", "--push-label: `9` is no label; use letters, digits"),
        ("--find-knee", "--find-knee: needs --slo, as ttft=500ms, which the rate is to hold"),
        ("--probe 3s", "--probe: has no meaning without --find-knee"),
        ("--find-knee --slo e2e=1s --users 3", "--find-knee: searches a rate; leave out --users"),
        ("--find-knee --slo e2e=1s --duration 3", "--duration: has no meaning with --find-knee;"),
        ("--find-knee --slo e2e=1s --rate 1,2", "--find-knee: begins at one rate; give --rate as"),
        ("--find-knee --slo e2e=1s --bounds 3", "--bounds: `3` does not fit; give LOW..HIGH, as"),
        ("--find-knee --slo e2e=1s --target-share 2", "--target-share: 2 is more than all; write"),
        ("--find-knee --slo e2e=1s --target-share 0", "target share 0: must lie between 0 and 1"),
        ("--find-knee --slo e2e=1s --tolerance 0", "tolerance 0: must lie from 0.5% to 50%"),
        ("--compare a b", "--url: has no meaning with --compare, which sends nothing"),
        ("--fail-if-worse any", "--fail-if-worse: goes with --compare A B; a run is judged by"),
        ("--workload nowhere.yaml", "nowhere.yaml: cannot be read (No such file or directory)"),
        ("--requests 0", "Invalid value for '--requests'"),
        ("--seed x", "Invalid value for '--seed'"),
        ("--arrivals bursts", "Invalid value for '--arrivals'"),
    ],
)
def test_wrong_options_are_told_before_anything_is_sent(
    shared: FakeEngine, args: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shared.control(forget_calls=True)
    assert call("--url", shared.url, "--model", "base", *args.split(" ")) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""
    assert shared.calls(ROUTE) == []
    assert [*Path().glob("loadtest-*")] == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "--url: is missing; give the server's address, or set LORAPLEX_URL"),
        (("--url", "host:80"), "--url: `host:80` is no address; give it as http://HOST:PORT"),
        (("--url", "http://me:se/cret@host"), "--url: is no address; give it as http://HOST:PORT"),
        (("--url", "me:secret@host"), "--url: is no address; give it as http://HOST:PORT"),
        (
            ("--url", "http://host/v1/chat/completions"),
            "--url: the tester adds `/chat/completions` itself; leave it out",
        ),
        (("--compare", "a", "b"), "--compare: a: cannot be read (No such file or directory)"),
        (("--dry-run",), "--model: is missing; name one"),
    ],
)
def test_what_is_missing_is_told(
    args: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*args) == 2
    assert capsys.readouterr().err == f"error: {words}\n"
