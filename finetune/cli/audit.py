"""finetune audit."""

from pathlib import Path
from typing import Annotated

import typer

from finetune.cli.completion import complete_run


def audit(
    model: Annotated[
        str,
        typer.Argument(
            metavar="RUN|CHECKPOINT",
            autocompletion=complete_run,
            help="A run (id, name, folder), a hub id, a folder or package:…",
        ),
    ],
    pairs: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Minimal pairs, in CrowS-Pairs' or WinoBias' form; may be given several times."
        ),
    ] = None,
    swaps: Annotated[
        bool,
        typer.Option(
            "--swaps", help="Exchange words for people (she for he) in the run's evaluation texts, or in --texts."
        ),
    ] = False,
    groups: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Texts by group: columns text, label, group, template, as HateCheck has."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Error rates by this column of the run's dataset, or of --texts."),
    ] = None,
    only_groups: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GROUP", help="Of --groups or --by this group, and others named so; given twice at least."
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(help="Language of the words and texts, such as en or pt; it must be one of the model's."),
    ] = None,
    hateful_label: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL", help="Label of the model that counts as hateful; may be given several times."),
    ] = None,
    hateful_value: Annotated[
        str | None, typer.Option(help="What the label column of the cases says for hateful.", show_default="hateful")
    ] = None,
    terms: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Your own words for people: columns dimension, form, group, term."),
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rows for --swaps and --by, instead of the run's own.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE=NAME", help="Column of a file, as more=sentence_a; may be given several times."),
    ] = None,
    max_rows: Annotated[
        int | None,
        typer.Option(min=1, help="At most so many pairs or texts.", show_default="all pairs; 1,000 texts each way"),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag, of a checkpoint on the hub.")] = None,
    output_dir: Annotated[
        Path, typer.Option(envvar="FINETUNE_OUTPUT_DIR", help="Folder of the run directories.")
    ] = Path("runs"),
    offline: Annotated[bool, typer.Option("--offline", help="Ask no hub: use what is on this machine.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything for programs.")] = False,
) -> None:
    """Probe a model for bias: whether its answers change, or are wrong more often, when a text is about other people.

    Probes: words exchanged in texts (--swaps), pairs of sentences (--pairs), error rates by group (--groups, --by).

    Without one, those of the run's recipe (evaluation.bias). What is found of a run is written into its record.

    Each number comes with its interval, its n (how many texts), and what is known against the probe.
    """
    import json
    import os

    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
    from finetune.console import quiet_libraries

    quiet_libraries()
    from finetune.audit.command import Request
    from finetune.audit.command import audit as put_probes
    from finetune.runs.bias import bias_text
    from finetune.runs.tables import plain

    named = dict(word.partition("=")[::2] for word in column or ())
    if not all(named.values()):
        raise typer.BadParameter("--column: expected ROLE=NAME, as more=sentence_a")
    wanted: list[dict[str, object]] = [
        {"probe": "pairs", "file": str(file), "columns": named, "language": language, "max_rows": max_rows}
        for file in pairs or ()
    ]
    if swaps:
        list_of_terms = str(terms) if terms else None
        wanted.append({"probe": "swaps", "language": language, "terms": list_of_terms, "hateful_label": hateful_label,
                       "max_rows": max_rows})  # fmt: skip
    if groups is not None:
        cases = {"probe": "groups", "file": str(groups), "columns": named, "language": language}
        wanted.append(
            {
                **cases,
                "hateful_label": hateful_label,
                "hateful_value": hateful_value or "hateful",
                "only_groups": only_groups or None,
            }
        )
    if by is not None:
        own = {"columns": named} if texts is not None else {}
        wanted.append(
            {"probe": "groups", "column": by, **own, "hateful_label": hateful_label, "only_groups": only_groups or None}
        )
    section = put_probes(Request(model, wanted, output_dir, texts, revision))
    typer.echo(json.dumps(section, indent=2, ensure_ascii=False) if as_json else plain(bias_text(section, whole=True)))
