"""A server that speaks S3's protocol over real HTTP, moto's, as a process of its own."""

import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import httpx
from obstore.store import S3Store

from adapters_registry.bucket import Bucket, parse_place

ROOT = Path(__file__).parents[1]
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
}


@dataclass(frozen=True)
class S3Bucket:
    """A bucket on the server, for tests that look into it and damage it."""

    endpoint: str
    name: str

    @property
    def url(self) -> str:
        """A prefix in the bucket, as the setting `artifacts_url` names it."""
        return f"s3://{self.name}/adapters"

    def open(self) -> Bucket:
        """The prefix as the code under test sees it."""
        return Bucket(parse_place(self.url), self.endpoint)

    def keys(self) -> set[str]:
        """Of all objects below the prefix."""
        return {each.key for each in self.open().listing()}

    def read(self, key: str) -> bytes:
        """An object's content."""
        return bytes(self._store().get(key).bytes())

    def write(self, key: str, content: bytes) -> None:
        """Replaces an object."""
        self._store().put(key, content)

    def delete(self, key: str) -> None:
        """Deletes an object."""
        self._store().delete(key)

    def _store(self) -> S3Store:
        return S3Store(
            self.name,
            prefix="adapters",
            config={"endpoint": self.endpoint},
            client_options={"allow_http": True},
        )


class S3Server:
    """The running server."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.s3_server"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.strip().isdecimal():
            self.stop()
            raise RuntimeError("the S3 server did not start")
        self.url = f"http://127.0.0.1:{int(line)}"

    def bucket(self) -> S3Bucket:
        """A new bucket."""
        made = S3Bucket(self.url, f"bucket-{uuid.uuid4().hex}")
        httpx.put(f"{made.endpoint}/{made.name}", trust_env=False).raise_for_status()
        return made

    def stop(self) -> None:
        """Ends it; its objects lay in its memory."""
        self._process.kill()
        self._process.communicate()


def _serve() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    # Which service is asked for it tells from the signature; without one it is S3.
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _serve()
