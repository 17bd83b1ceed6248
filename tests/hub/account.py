"""A loopback stand-in for one's own account on the hub: what huggingface_hub asks of it when it uploads.

Only who sends the token is let in. Large files go to their storage first (LFS), then a commit names them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.hub.stand_in import LARGE

ATTRIBUTES = {".gitattributes": b"*.safetensors filter=lfs\n"}
_REPOSITORY = re.compile(r"/api/models/(?P<id>[^/]+/[^/]+)(?:/(?P<verb>[a-z]+)/(?P<revision>[^/]+))?")
_BATCH = re.compile(r"/(?P<id>[^/]+/[^/]+)\.git/info/lfs/objects/batch")


@dataclass(frozen=True)
class Commit:
    """A commit of a branch: its title, and all files after it."""

    title: str
    files: dict[str, bytes]

    @property
    def id(self) -> str:
        """Return 40 hexadecimal digits."""
        return hashlib.sha1(repr((self.title, sorted(self.files.items()))).encode()).hexdigest()


@dataclass
class Repository:
    """A repository: who may see it, and the commits of its branches, oldest first."""

    private: bool
    branches: dict[str, list[Commit]]


@dataclass
class Account:
    """The account of `me`: its repositories, the storage of large files, and every request as (method, path).

    `breaks` is how many uploads to the storage are refused before one is taken.
    """

    token: str
    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    storage: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    breaks: int = 0

    def add(self, name: str, private: bool = True, *commits: Commit) -> Repository:
        """Make a repository as the hub does, then add commits to its main branch."""
        self.repositories[name] = Repository(private, {"main": [Commit("initial commit", ATTRIBUTES), *commits]})
        return self.repositories[name]

    def uploads(self) -> list[str]:
        """Return what was sent to the storage, by its hash."""
        return [path.rpartition("/")[2] for method, path in self.requests if method == "PUT"]

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Return status and content of the answer to a request."""
        if method == "PUT":
            if self.breaks:
                self.breaks -= 1
                return 400, {"error": "the line broke"}
            self.storage[path.rpartition("/")[2]] = body
            return 200, {}
        if path == "/api/whoami-v2":
            return 200, {"name": "me", "type": "user"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        content = json.loads(body) if body and "/commit/" not in path else {}
        if path == "/api/repos/create":
            return self._create(content)
        if _BATCH.fullmatch(path):
            return 200, {"objects": [self._instruction(entry) for entry in content["objects"]]}
        asked = _REPOSITORY.fullmatch(path)
        if asked is None or asked["id"] not in self.repositories:
            return 404, "RepoNotFound"
        return self._about(self.repositories[asked["id"]], asked, content, body)

    def _create(self, content: dict[str, Any]) -> tuple[int, Any]:
        name = f"{content['organization'] or 'me'}/{content['name']}"
        if not name.startswith("me/"):
            return 403, {"error": f"you may not write to {name}"}
        if name in self.repositories:
            return 409, {"error": "You already created this model repo"}
        self.add(name, content.get("visibility") == "private")
        return 200, {"url": f"{self.url}/{name}"}

    def _instruction(self, entry: dict[str, Any]) -> dict[str, Any]:
        known = {"oid": entry["oid"], "size": entry["size"]}
        if entry["oid"] in self.storage:
            return known
        return {**known, "actions": {"upload": {"href": f"{self.url}/storage/{entry['oid']}"}}}

    def _about(
        self, repository: Repository, asked: re.Match[str], content: dict[str, Any], body: bytes
    ) -> tuple[int, Any]:
        verb, branch = asked["verb"], unquote(asked["revision"] or "main")
        if verb == "branch":
            start = {commit.id: commit for commits in repository.branches.values() for commit in commits}
            repository.branches[branch] = [start[content["startingPoint"]]]
            return 200, {}
        if branch not in repository.branches:
            return 404, "RevisionNotFound"
        commits = repository.branches[branch]
        if verb == "commits":
            return 200, [
                {"id": commit.id, "title": commit.title, "message": "", "authors": [{"user": "me"}],
                 "date": "2026-01-01T00:00:00.000Z"}
                for commit in reversed(commits)
            ]  # fmt: skip
        if verb == "preupload":
            return 200, {"files": [self._mode(entry["path"], commits[-1]) for entry in content["files"]]}
        if verb == "commit":
            return self._commit(asked["id"], commits, [json.loads(line) for line in body.splitlines()])
        files = commits[-1].files
        siblings = [{"rfilename": name} for name in files]
        if verb == "tree":
            return 200, [{"type": "file", "path": name, "size": len(files[name]), "oid": "0"} for name in files]
        return 200, {"id": asked["id"], "sha": commits[-1].id, "private": repository.private, "siblings": siblings}

    def _mode(self, path: str, newest: Commit) -> dict[str, Any]:
        mode, content = "lfs" if path.endswith(LARGE) else "regular", newest.files.get(path)
        known = None
        if content is not None:
            blob = b"blob %d\0" % len(content) + content
            known = hashlib.sha256(content).hexdigest() if mode == "lfs" else hashlib.sha1(blob).hexdigest()
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": known}

    def _commit(self, name: str, commits: list[Commit], lines: list[dict[str, Any]]) -> tuple[int, Any]:
        files, title = dict(commits[-1].files), ""
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                title = value["summary"]
                if value.get("parentCommit") not in (None, commits[-1].id):
                    return 412, {"error": "A commit has happened since. Please refresh and try again."}
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.storage[value["oid"]]
            else:
                del files[value["path"]]
        commits.append(Commit(title, files))
        return 200, {"commitUrl": f"{self.url}/{name}/commit/{commits[-1].id}", "commitOid": commits[-1].id}


def _handler(account: Account) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = urlsplit(self.path).path
            account.requests.append((self.command, path))
            if self.headers.get("Authorization") != f"Bearer {account.token}" and not path.startswith("/storage/"):
                status, content = 401, {"error": "Invalid username or password."}
            else:
                status, content = account.answer(self.command, path, body)
            answer = json.dumps({"error": content} if isinstance(content, str) else content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            if isinstance(content, str):
                self.send_header("X-Error-Code", content)
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET
        do_PUT = do_GET

        def log_message(self, *_: Any) -> None:
            """Say nothing: `requests` is the log."""

    return Handler


@contextmanager
def serve_account(token: str) -> Iterator[Account]:
    """Serve an account that has no repository yet on a free port of the loopback until the block ends."""
    account = Account(token)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(account))
    server.daemon_threads = True
    account.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield account
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
