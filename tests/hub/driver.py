"""Run several commands of finetune in one process whose environment names the stand-in as its hub.

Huggingface_hub reads its environment when it is imported, so this cannot be done in the process of the tests. The
commands come as JSON on stdin, [[argument, …], …]; the answers go as JSON to stdout, [[code, stdout, stderr], …].
With --impatient, huggingface_hub tries a hub that does not answer again at once, instead of after 1, 2, 4, 8 and 8 s.
"""

import io
import json
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace


def main() -> None:
    """Run every command of stdin and print what came of each."""
    _stay_on_this_machine()
    if "--impatient" in sys.argv:
        _never_wait()
    answers = [_run(arguments) for arguments in json.load(sys.stdin)]
    json.dump(answers, sys.__stdout__)


def _run(arguments: Sequence[str]) -> tuple[int, str, str]:
    from finetune.cli.app import main as finetune

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = finetune(arguments)
    return code, out.getvalue(), err.getvalue()


def _stay_on_this_machine() -> None:
    """Refuse to look up any name: datasets would ask for the address of its viewer, which the stand-in has not."""
    look_up = socket.getaddrinfo

    def guarded(host, *rest, **options):
        if host not in ("127.0.0.1", "localhost", None):
            raise socket.gaierror(socket.EAI_NONAME, f"a test asked for the address of {host}")
        return look_up(host, *rest, **options)

    socket.getaddrinfo = guarded


def _never_wait() -> None:
    from huggingface_hub import file_download
    from huggingface_hub.utils import _http

    _http.time = file_download.time = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})


if __name__ == "__main__":
    main()
