"""`finetune push`: the model of a run and its card, to a repository of the hub.

A push is one commit whose title names the run. That tells on the next push whose work the repository holds: the same
run is brought up to date, an empty repository is filled, anything else is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.console import say
from finetune.errors import FinetuneError
from finetune.hub import hub_endpoint, require_login
from finetune.models.adapters import ADAPTER_FOLDER
from finetune.runs.card import model_card
from finetune.runs.card_metadata import hub_id
from finetune.runs.files import scrub
from finetune.runs.formats import file_size
from finetune.runs.record import Run, find_run, read_run, slug
from finetune.runs.usable import model_folder
from finetune.text import first_line, plural
from finetune.training.options import SMOKE_TAG
from finetune.using.files import CARD, adapter_files, model_files

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TITLE = "finetune: model of run "
MAIN = "main"
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FROM_THE_HUB = frozenset({".gitattributes"})  # what a new repository holds


@dataclass(frozen=True)
class Request:
    """What is to be pushed where.

    `to`: owner/name, or a name below one's own account; None: as the recipe says, else the run's name. `revision`: a
    branch. `public`: may be seen by all; None: as the recipe says. `force`: may replace what others have put there,
    and says nothing of who may see it. `merged`: of a run with adapters the whole model.
    """

    run: str
    output_dir: Path
    to: str | None = None
    revision: str | None = None
    public: bool | None = None
    force: bool = False
    merged: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Plan:
    """The files of a push by their path in the repository (a path on disk, or content), and where they go."""

    run: Run
    repository: str
    branch: str
    private: bool
    files: Mapping[str, Path | bytes]
    is_adapter: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Remote:
    """What a branch of a repository holds: its files, the newest commit and its title; `exists`: the repository."""

    exists: bool
    private: bool | None = None
    commit: str | None = None
    title: str = ""
    count: int = 0
    files: frozenset[str] = frozenset()


def push(request: Request) -> dict[str, Any]:
    """Upload the model of a finished run, and return what was uploaded, and where to.

    What a broken upload has already brought there is not sent again. Raises FinetuneError when nobody is logged in,
    and when the repository holds something else than this run's model.
    """
    run = read_run(find_run(request.run, request.output_dir))
    folder = model_folder(run)
    require_login()
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub_endpoint())
    with _in_our_words():
        plan = make_plan(run, folder, request, _own_name(api, _wanted_name(run, request)))
        for note in plan.notes:
            say(f"note: {note}")
        say(describe(plan))
        remote = look(api, plan)
        _require_consent(plan, remote)
        _require_own(plan, remote, request)
        if request.dry_run:
            say("nothing was uploaded: --dry-run")
            return _report(plan, remote, remote.commit, uploaded=False)
        commit = _upload(api, plan, remote)
    return _report(plan, remote, commit, uploaded=True)


def push_as_recipe_says(run: Run | None) -> None:
    """Upload the model of a run that has just ended, if its recipe says so; that of a smoke run stays here.

    An error says that the run itself is complete.
    """
    if run is None or run.directory is None or not run.is_finished or SMOKE_TAG in run.tags:
        return
    if not (run.recipe.get("hub") or {}).get("push_to_hub"):
        return
    try:
        done = push(Request(str(run.directory), run.directory.parent))
    except FinetuneError as error:
        raise FinetuneError(
            f"the run is {run.status}, but its model could not be pushed: {error.message}",
            f"{error.hint or ''} Then: finetune push {run.directory}".strip(),
        ) from error
    say(f"pushed to {done['url']}")


def _wanted_name(run: Run, request: Request) -> str:
    hub = run.recipe.get("hub") or {}
    return request.to or hub.get("hub_model_id") or slug(run.name)


def _own_name(api: HfApi, name: str) -> str:
    """Return owner/name; a name alone belongs to who is logged in."""
    found = name if "/" in name else f"{api.whoami()['name']}/{name}"
    if not _ID.fullmatch(found) or "--" in found or ".." in found:
        raise FinetuneError(
            f"{name}: is no name of a repository", "Name it as owner/name, for example --to me/my-model."
        )
    return found


def make_plan(run: Run, folder: Path, request: Request, repository: str) -> Plan:
    """Return what a push uploads: of a run with adapters these and the tokenizer, else model, tokenizer and card."""
    adapter, base = folder / ADAPTER_FOLDER, hub_id(run.model, "name_or_path")
    is_adapter = adapter.is_dir() and not request.merged and base is not None
    files: dict[str, Path | bytes] = {**(adapter_files(folder) if is_adapter else model_files(folder))}
    files[CARD] = model_card(run, repository, is_adapter).encode()
    notes = []
    if adapter.is_dir() and base is None and not request.merged:
        notes.append("its checkpoint is not on the hub, where nobody could find what the adapter adds to: the whole "
                     "model is pushed, with the adapter merged")  # fmt: skip
    hub = run.recipe.get("hub") or {}
    private = not request.public if request.public is not None else bool(hub.get("hub_private_repo", True))
    return Plan(run, repository, request.revision or MAIN, private, files, is_adapter, tuple(notes))


def describe(plan: Plan) -> str:
    """Return what will be uploaded, a line a file."""
    what = "adapter" if plan.is_adapter else "model"
    sizes = {name: len(file) if isinstance(file, bytes) else file.stat().st_size for name, file in plan.files.items()}
    width = max(map(len, sizes))
    lines = [f"  {name:<{width}}  {file_size(size)}" for name, size in sorted(sizes.items())]
    where = f"{hub_endpoint()}/{plan.repository}" + (f", branch {plan.branch}" if plan.branch != MAIN else "")
    head = f"{what} of {plan.run.run_id} → {where}: {plural(len(sizes), 'file')}, {file_size(sum(sizes.values()))}"
    return "\n".join([head, *lines])


def look(api: HfApi, plan: Plan) -> Remote:
    """Return what the branch of a plan holds now."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        private = api.repo_info(plan.repository).private
    except RepositoryNotFoundError:
        return Remote(exists=False)
    try:
        commits = api.list_repo_commits(plan.repository, revision=plan.branch)
        files = frozenset(api.list_repo_files(plan.repository, revision=plan.branch))
    except RevisionNotFoundError:
        return Remote(True, private)
    newest = commits[0]
    return Remote(True, private, newest.commit_id, newest.title, len(commits), files)


def _require_consent(plan: Plan, remote: Remote) -> None:
    """Raise FinetuneError when a push would show the model to all without being asked to, and say if it shows it less.

    Whether files may be replaced is another question: --force answers only that.
    """
    if not remote.exists:
        return
    if plan.private and not remote.private:
        raise FinetuneError(
            f"{plan.repository} is public, and this push is private",
            "--public says that all may see the model; --to names another repository.",
        )
    if remote.private and not plan.private:
        say(f"note: {plan.repository} is private and stays so; its settings on the hub say who may see it")


def _require_own(plan: Plan, remote: Remote, request: Request) -> None:
    """Raise FinetuneError when a push would replace somebody's work without being told to."""
    own = f"{TITLE}{plan.run.run_id}"
    is_new = remote.commit is None or remote.files <= _FROM_THE_HUB
    if is_new or remote.title == own or request.force:
        return
    if remote.title.startswith(TITLE):
        found = f"holds the model of another run, {remote.title.removeprefix(TITLE)}"
    else:
        found = f"has a commit that is not of finetune: {remote.title!r}"
    raise FinetuneError(
        f"{plan.repository}, branch {plan.branch}, {found}",
        f"--revision {slug(plan.run.name)} pushes to a branch of its own; --force replaces it (the history keeps it).",
    )


def _upload(api: HfApi, plan: Plan, remote: Remote) -> str:
    """Upload the files as one commit on top of the one that was looked at, and return its id."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    if not remote.exists:
        api.create_repo(plan.repository, private=plan.private)
    if remote.commit is None and plan.branch != MAIN:  # from the first commit: nothing of main lies in it
        first = api.list_repo_commits(plan.repository)[-1].commit_id
        api.create_branch(plan.repository, branch=plan.branch, revision=first, exist_ok=True)
    stale = sorted(remote.files - set(plan.files) - _FROM_THE_HUB)
    operations: list[Any] = [CommitOperationDelete(path_in_repo=name) for name in stale]
    operations += [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=file if isinstance(file, bytes) else str(file))
        for name, file in plan.files.items()
    ]
    done = api.create_commit(
        plan.repository, operations, commit_message=f"{TITLE}{plan.run.run_id}", revision=plan.branch,
        parent_commit=remote.commit,
    )  # fmt: skip
    return str(done.oid)


@contextmanager
def _in_our_words() -> Iterator[None]:
    """Turn what the hub and its client say into one clear error, without anything secret."""
    from huggingface_hub.errors import HfHubHTTPError

    again = "Push again once it answers: files that are there already are not sent a second time."
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        hints = {
            401: "hf auth login, with a token that may write.",
            403: "The token may not write there: hf auth login with another, or --to a repository of your own.",
            412: "Somebody has changed the repository meanwhile: look at it, then push again.",
        }
        raise FinetuneError(f"{hub_endpoint()}: {_first_line(error)}", hints.get(status or 0, again)) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise FinetuneError(f"{hub_endpoint()}: the upload broke off: {_first_line(error)}", again) from error


def _first_line(error: Exception) -> str:
    return str(scrub(first_line(error)))


def _report(plan: Plan, remote: Remote, commit: str | None, uploaded: bool) -> dict[str, Any]:
    """Return what `--json` prints; `private` is who may see it there, or of a repository yet to be made would."""
    return {
        "run_id": plan.run.run_id,
        "repository": plan.repository,
        "url": f"{hub_endpoint()}/{plan.repository}" + ("" if plan.branch == MAIN else f"/tree/{plan.branch}"),
        "revision": plan.branch,
        "commit": commit,
        "private": remote.private if remote.exists else plan.private,
        "kind": "adapter" if plan.is_adapter else "model",
        "files": sorted(plan.files),
        "uploaded": uploaded,
    }
