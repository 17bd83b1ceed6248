"""finetune.hub: a hub that is not there is noticed at once; one that answers anything is not bypassed."""

import http.server
import os
import threading

import pytest

from finetune.hub import go_offline_if_unreachable, hub_problem


@pytest.fixture
def server():
    """Return a function that serves one status on the loopback and gives its address."""
    servers = []

    def serve(status):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.send_response(status)
                self.end_headers()

            def log_message(self, *arguments):
                pass

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield serve
    for each in servers:
        each.shutdown()
        each.server_close()


@pytest.mark.parametrize(("status", "problem"), [(200, None), (401, None), (404, None), (503, "it answers 503")])
def test_hub_problem_by_status(server, status, problem):
    assert hub_problem(server(status)) == problem


def test_hub_problem_of_a_closed_port_names_the_reason():
    assert "refused" in hub_problem("http://127.0.0.1:9")


def test_go_offline_when_nothing_answers(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert "http://127.0.0.1:9 cannot be reached" in go_offline_if_unreachable(["owner/name"])
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_go_offline_does_not_ask_for_local_inputs(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert go_offline_if_unreachable([]) is None
    assert os.environ["HF_HUB_OFFLINE"] == "0"


def test_go_offline_not_when_the_hub_answers(server, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server(401))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert go_offline_if_unreachable(["owner/name"]) is None
