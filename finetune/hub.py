"""Whether the Hugging Face hub can be reached, asked before its client is imported; what broke on the way to it."""

import os
import ssl
import threading
import urllib.error
import urllib.request

from finetune.errors import FinetuneError

TIMEOUT_S = 3.0
_DEFAULT_ENDPOINT = "https://huggingface.co"


def hub_endpoint() -> str:
    """Return the address of the hub: HF_ENDPOINT, else the public one."""
    return os.environ.get("HF_ENDPOINT") or _DEFAULT_ENDPOINT


def is_offline() -> bool:
    """Tell whether the hub is not to be asked (HF_HUB_OFFLINE, which --offline sets)."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def hub_problem(endpoint: str) -> str | None:
    """Return why nothing answers at the hub's address, or None when something does, whatever it says.

    Looking up a name is not bound by the client's own timeout, so the answer is waited for from outside.
    """
    answers: list[str | None] = []
    thread = threading.Thread(target=lambda: answers.append(_ask(endpoint)), daemon=True)
    thread.start()
    thread.join(2 * TIMEOUT_S)
    return answers[0] if answers else f"no answer within {2 * TIMEOUT_S:g} s"


def _ask(endpoint: str) -> str | None:
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=TIMEOUT_S).close()
    except urllib.error.HTTPError as answer:
        return f"it answers {answer.code}" if answer.code >= 500 else None
    except urllib.error.URLError as error:
        # A certificate that Python does not know may be known to the hub's client: somebody is there.
        return None if isinstance(error.reason, ssl.SSLError) else str(error.reason)
    except (OSError, ValueError) as error:
        return str(error) or type(error).__name__
    return None


def go_offline_if_unreachable(references: list[str]) -> str | None:
    """Set HF_HUB_OFFLINE when one of the references is on the hub and the hub cannot be reached; return a note.

    The hub's client would retry every file for minutes before it fell back to its cache. Must run before
    huggingface_hub is imported, which reads the variable then.
    """
    if not references or is_offline():
        return None
    problem = hub_problem(hub_endpoint())
    if problem is None:
        return None
    os.environ["HF_HUB_OFFLINE"] = "1"
    return f"{hub_endpoint()} cannot be reached ({problem}): only what is in the cache is used, as with --offline"


def causes(problem: BaseException | None) -> list[BaseException]:
    """Return an exception and those that it came from."""
    found: list[BaseException] = []
    while problem is not None and problem not in found:
        found.append(problem)
        problem = problem.__cause__ or problem.__context__
    return found


def connection_problem(problem: BaseException) -> tuple[str, str] | None:
    """Return what went wrong between here and the hub, and what to do; None: it was something else.

    Libraries wrap what its client raises in errors of their own, so that all the causes are looked at.
    """
    chain = causes(problem)
    names = {type(error).__name__ for error in chain}
    statuses = [getattr(getattr(error, "response", None), "status_code", 0) for error in chain]
    if 429 in statuses:
        return (
            "the hub refuses more requests for now (429, too many of them)",
            "Wait some minutes and run it again; who is logged in may ask more often: hf auth login",
        )
    if broken := next((status for status in statuses if status >= 500), None):
        return f"the hub is out of order (it answers {broken})", "Run it again later: https://status.huggingface.co"
    if names & {"ConnectTimeout", "ReadTimeout", "PoolTimeout", "TimeoutException", "Timeout"}:
        return (
            "the hub did not answer in time",
            "Run it again; with a slow network wait longer: HF_HUB_DOWNLOAD_TIMEOUT=60 HF_HUB_ETAG_TIMEOUT=60",
        )
    if names & {"RemoteProtocolError", "ReadError", "ChunkedEncodingError", "IncompleteRead"}:
        return "the connection to the hub broke off", "Run it again: what has arrived is kept."
    return None


def require_login() -> None:
    """Raise FinetuneError when nobody is logged in to the hub, or it is not to be asked; the token goes nowhere."""
    if is_offline():
        raise FinetuneError(
            "a push needs the hub, and HF_HUB_OFFLINE (--offline) forbids it",
            "Run without --offline, or unset HF_HUB_OFFLINE.",
        )
    from huggingface_hub import get_token

    if get_token() is None:
        raise FinetuneError(f"nobody is logged in to {hub_endpoint()}", "hf auth login, with a token that may write.")
