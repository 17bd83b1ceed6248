"""A loopback stand-in for the Hugging Face hub: what huggingface_hub, transformers and datasets ask of it when reading.

It answers as the hub does to someone who is not logged in: commits, entity tags, redirects of large files, and the
error codes that huggingface_hub turns into its exceptions.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

# What the hub keeps in large-file storage, and so redirects.
LARGE = (".parquet", ".safetensors", ".bin")
_HANGS_S = 5.0

_RESOLVE = re.compile(r"/(?P<kind>datasets/)?(?P<id>[^/]+/[^/]+|[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_API = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<id>[^/]+/[^/]+?|[^/]+?)"
    r"(?:/(?P<verb>revision|tree|paths-info)/(?P<revision>[^/]+)(?:/(?P<path>.+))?)?"
)


@dataclass(frozen=True)
class Repository:
    """A repository of the hub: its kind (models or datasets), id (owner/name), files by path, and older commits."""

    kind: str
    id: str
    files: dict[str, bytes] = field(repr=False)
    gated: bool = False
    older: tuple[Repository, ...] = field(default=(), repr=False)

    @cached_property
    def commit(self) -> str:
        """Return the commit: 40 hexadecimal digits that change with the content."""
        digest = hashlib.sha1(f"{self.kind}/{self.id}".encode())
        for path in sorted(self.files):
            digest.update(path.encode() + self.files[path])
        return digest.hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        """Return the tree entry of a file."""
        content = self.files[path]
        entry = {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        if path.endswith(LARGE):
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        return entry

    def tree(self, folder: str, recursive: bool) -> list[dict[str, Any]]:
        """Return the entries below a folder ("" is the top): files, and folders in front of them."""
        start = f"{folder}/" if folder else ""
        inside = [path for path in sorted(self.files) if path.startswith(start)]
        parents = {"/".join(parts[:n]) for path in inside for parts in [path.split("/")] for n in range(1, len(parts))}
        folders = [
            {"type": "directory", "path": name, "size": 0, "oid": hashlib.sha1(name.encode()).hexdigest()}
            for name in sorted(parents)
            if name.startswith(start)
        ]
        found = [*folders, *map(self.entry, inside)]
        return found if recursive else [entry for entry in found if "/" not in entry["path"][len(start) :]]

    def info(self) -> dict[str, Any]:
        """Return what the hub's API says about the repository."""
        siblings = [{"rfilename": path} for path in sorted(self.files)]
        return {
            "_id": self.commit[:24], "id": self.id, "sha": self.commit, "private": False, "disabled": False,
            "gated": "manual" if self.gated else False, "tags": [], "downloads": 1, "likes": 0, "siblings": siblings,
        }  # fmt: skip


@dataclass
class Fault:
    """What goes wrong with the next requests whose path fits a pattern, one after the other; then all is well.

    "half": the connection breaks in the middle of the body; "drop": it is closed without a word; "hang": no answer
    comes for a while; a number: the status of a refusal.
    """

    pattern: str
    what: list[str | int]


@dataclass(frozen=True)
class StandIn:
    """A running stand-in: its address, and every request that it got as (method, path)."""

    url: str
    requests: list[tuple[str, str]]


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: dict[str, str]
    body: bytes = b""


def _json(content: Any) -> _Answer:
    return _Answer(200, {"Content-Type": "application/json"}, json.dumps(content).encode())


def _refusal(status: int, code: str | None, message: str, commit: str | None = None) -> _Answer:
    headers = {"X-Error-Message": message, "Content-Type": "application/json"}
    headers |= {"X-Error-Code": code} if code else {}
    headers |= {"X-Repo-Commit": commit} if commit else {}
    return _Answer(status, headers, json.dumps({"error": message}).encode())


class _Hub:
    """The repositories, and the answers about them."""

    def __init__(self, repositories: Sequence[Repository]) -> None:
        self.repositories = {(repository.kind, repository.id): repository for repository in repositories}
        self.large = {
            hashlib.sha256(content).hexdigest(): content
            for newest in repositories
            for repository in (newest, *newest.older)
            for path, content in repository.files.items()
            if path.endswith(LARGE)
        }

    def answer(self, method: str, target: str, form: dict[str, list[str]], host: str) -> _Answer:
        """Answer a request; a HEAD is answered as a GET, without its body."""
        address = urlsplit(target)
        if address.path.startswith("/cdn/"):
            return _Answer(200, {"ETag": f'"{address.path[5:]}"'}, self.large[address.path[5:]])
        if file := _RESOLVE.fullmatch(address.path):
            return self._file(file, host)
        if asked := _API.fullmatch(address.path):
            return self._about(asked, {**parse_qs(address.query), **form})
        return _refusal(404, None, "Sorry, we can't find the page you are looking for.")

    def _find(self, kind: str, name: str, revision: str) -> Repository | _Answer:
        repository = self.repositories.get((kind, name))
        if repository is None:  # the hub does not tell a stranger what is missing from what is private: 401, not 404
            return _refusal(401, "RepoNotFound", "Invalid username or password.")
        if unquote(revision) == "main":
            return repository
        for commit in (repository, *repository.older):
            if commit.commit == unquote(revision):
                return commit
        return _refusal(404, "RevisionNotFound", f"Invalid rev id: {unquote(revision)}")

    def _file(self, asked: re.Match[str], host: str) -> _Answer:
        repository = self._find("datasets" if asked["kind"] else "models", asked["id"], asked["revision"])
        if isinstance(repository, _Answer):
            return repository
        if repository.gated:
            return _refusal(401, "GatedRepo", f"Access to {repository.id} is restricted. Please log in.")
        path = unquote(asked["path"])
        if path not in repository.files:
            return _refusal(404, "EntryNotFound", "Entry not found", repository.commit)
        entry, headers = repository.entry(path), {"X-Repo-Commit": repository.commit}
        if "lfs" not in entry:
            return _Answer(200, {**headers, "ETag": f'"{entry["oid"]}"'}, repository.files[path])
        linked = {"X-Linked-Size": str(entry["size"]), "X-Linked-ETag": f'"{entry["lfs"]["oid"]}"'}
        storage = host.replace("127.0.0.1", "localhost")  # another host, as the hub's is: headers of the 302 count
        return _Answer(
            302, {**headers, **linked, "Location": f"http://{storage}/cdn/{entry['lfs']['oid']}?of={repository.id}"}
        )

    def _about(self, asked: re.Match[str], values: dict[str, list[str]]) -> _Answer:
        repository = self._find(asked["kind"], asked["id"], asked["revision"] or "main")
        if isinstance(repository, _Answer):
            return repository
        if asked["verb"] == "tree":
            folder, recursive = unquote(asked["path"] or ""), values.get("recursive", ["false"])[0].lower() == "true"
            entries = repository.tree(folder, recursive)
            missing = _refusal(404, "EntryNotFound", f"{folder} does not exist", repository.commit)
            return _json(entries) if entries else missing
        if asked["verb"] == "paths-info":
            every = {entry["path"]: entry for entry in repository.tree("", recursive=True)}
            return _json([every[path] for path in values.get("paths", []) if path in every])
        return _json(repository.info())


def _handler(
    hub: _Hub, requests: list[tuple[str, str]], faults: Sequence[Fault], closing: threading.Event
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            form = parse_qs(self.rfile.read(length).decode()) if length else {}
            requests.append((self.command, self.path))
            fault = self._fault()
            if fault == "hang":
                closing.wait(_HANGS_S)
            if fault in ("hang", "drop"):
                self.close_connection = True
                return
            if isinstance(fault, int):
                answer = _refusal(fault, None, "Try again later.")
            else:
                answer = hub.answer(self.command, self.path, form, self.headers["Host"])
            status, body, headers = answer.status, answer.body, dict(answer.headers)
            if status == 200 and (part := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")):
                first, last = int(part[1]), min(int(part[2] or len(body) - 1), len(body) - 1)
                headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
                status, body = 206, body[first : last + 1]
            self.send_response(status)
            for name, value in {**headers, "Accept-Ranges": "bytes", "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[: len(body) // 2] if fault == "half" else body)
            self.close_connection = fault == "half"

        def _fault(self) -> str | int | None:
            for fault in faults:
                if fault.what and re.search(fault.pattern, f"{self.command} {self.path}"):
                    return fault.what.pop(0)
            return None

        do_HEAD = do_GET
        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            """Say nothing: `requests` is the log."""

    return Handler


@contextmanager
def serve(repositories: Sequence[Repository], faults: Sequence[Fault] = ()) -> Iterator[StandIn]:
    """Serve repositories on a free port of the loopback until the block ends."""
    requests: list[tuple[str, str]] = []
    closing = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(_Hub(repositories), requests, faults, closing))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield StandIn(f"http://127.0.0.1:{server.server_port}", requests)
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
