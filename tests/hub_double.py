"""A hub on 127.0.0.1 that speaks what the ``datasets`` library asks of the real one, and counts what it gives."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit


class Hub:
    """Repositories of data sets, by id.

    Attributes:
        repositories: Files of each, by path; may be changed at any time.
        given: Bytes of each file that were asked for, by repository and path.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.given: Counter[tuple[str, str]] = Counter()
        self.url = ""

    def sha(self, name: str) -> str:
        """Of the newest commit of a repository."""
        files = sorted(self.repositories[name].items())
        return hashlib.sha1(b"".join(path.encode() + content for path, content in files)).hexdigest()

    def environment(self, home: Path) -> dict[str, str]:
        """Of a process that uses this hub, and keeps what it loads in a folder of its own."""
        return {**os.environ, "HF_ENDPOINT": self.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home)}


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub while the block runs."""
    own = Hub()

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
            is_api = parts[0] == "api"
            repository, rest = "/".join(parts[is_api:][1:3]), parts[is_api:][3:]
            files = own.repositories.get(repository)
            if files is None:
                self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            elif not is_api:
                self._file(repository, "/".join(rest[2:]))
            elif rest[:1] == ["tree"]:
                self._json(_tree(files, "/".join(rest[2:])))
            elif rest[:1] == ["paths-info"]:
                asked = json.loads(body) if body.startswith(b"{") else parse_qs(body.decode())
                self._json([entry for entry in _tree(files, "") if entry["path"] in asked["paths"]])
            else:
                siblings = [{"rfilename": path} for path in sorted(files)]
                self._json({"id": repository, "sha": own.sha(repository), "siblings": siblings, "tags": []})

        def _file(self, repository: str, path: str) -> None:
            content = own.repositories[repository].get(path)
            commit = {"X-Repo-Commit": own.sha(repository)}
            if content is None:
                self._send(404, b"", {**commit, "X-Error-Code": "EntryNotFound"})
                return
            headers = {**commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"', "Accept-Ranges": "bytes"}
            status, first, last = 200, 0, len(content) - 1
            if (asked := self.headers.get("Range")) and self.command == "GET":
                begin, end = asked.removeprefix("bytes=").split("-")
                status, first, last = 206, int(begin), min(last, int(end or last))
                headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            part = content[first : last + 1]
            if self.command == "GET":
                own.given[repository, path] += len(part)
            self._send(status, part, headers)

        def _json(self, value: object) -> None:
            self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    own.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield own
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _tree(files: Mapping[str, bytes], folder: str) -> list[dict[str, object]]:
    below = {path: content for path, content in files.items() if path.startswith(f"{folder}/" if folder else "")}
    entries: list[dict[str, object]] = [
        {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        for path, content in sorted(below.items())
    ]
    folders = {path.rpartition("/")[0] for path in below} - {"", folder}
    return [*entries, *({"type": "directory", "path": path, "oid": "0" * 40} for path in sorted(folders))]
