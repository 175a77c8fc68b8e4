"""nginx as a plain reverse proxy: the least that a proxy can cost."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.sides.engine import Engine
from benchmarks.sides.peers import system_tool, tool_version
from benchmarks.sides.processes import Child
from benchmarks.sides.question import Target
from benchmarks.sides.side import START_S, Running, answers, free_port, wait_until

_CONFIG = """\
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    upstream engine {{
        server {engine};
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://engine;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
"""


class Nginx:
    """Keep-alive to the engine, no buffering, one worker."""

    name = "nginx"

    def prepare(self) -> None:
        system_tool("nginx")

    def versions(self) -> dict[str, str]:
        return {"nginx": tool_version("nginx", "-v").rpartition("/")[2]}

    def start(self, engine: Engine, folder: Path, cores: Sequence[int]) -> Running:
        port = free_port()
        config = folder / "nginx.conf"
        config.write_text(nginx_config(folder, engine.url, port))
        command = [str(system_tool("nginx")), "-c", str(config), "-p", str(folder)]
        child = Child([*command, "-e", "error.log"], cores=cores, log=folder / "out.log")
        target = Target(f"http://127.0.0.1:{port}", engine.target.model)
        wait_until(child, answers(target), START_S)
        return Running(self.name, target, child)


def nginx_config(folder: Path, engine_url: str, port: int) -> str:
    """The whole configuration; every file it writes lies in `folder`."""
    return _CONFIG.format(folder=folder, engine=engine_url.removeprefix("http://"), port=port)
