import dataclasses

from finetune.emissions.components import known
from finetune.emissions.journal import journal_path, read_journal
from finetune.emissions.ledger import total_microjoules
from finetune.emissions.nodes import Copies

CPU = known("cpu", "modelled", "load model", "CPU load, TDP known")


def grown(life, joules, **changes):
    """Return a life after so many seconds at 1 W."""
    return dataclasses.replace(
        life,
        components=(CPU,),
        microjoules={("cpu", "train"): joules * 10**6},
        microseconds={"train": joules * 10**6},
        **changes,
    )


def test_nodes_copies_read_back_as_what_was_told(tmp_path, make_life):
    copies, first = Copies(tmp_path), make_life(0, 1, resumed_from_uj={0: 1, 1: 2})
    copies.keep([first])
    copies.keep([grown(first, 10)])
    copies.keep([grown(first, 20, reason_ended="completed", notes=("a note",))])
    [read] = read_journal(tmp_path)
    assert read == grown(first, 20, reason_ended="completed", notes=("a note",))


def test_nodes_copies_keep_idle_baseline_and_neighbours(tmp_path, make_life):
    told = grown(make_life(0, 1), 10, idle_microjoules={"cpu": 4}, idle_microseconds=2, shared_with=("other",))
    Copies(tmp_path).keep([told])
    assert read_journal(tmp_path) == (told,)


def test_nodes_copies_go_on_after_a_resume_and_ignore_older_accounts(tmp_path, make_life):
    Copies(tmp_path).keep([grown(make_life(0, 1), 10), grown(make_life(0, 2), 5)])
    again = Copies(tmp_path)
    before = journal_path(tmp_path, 1).read_bytes()
    again.keep([grown(make_life(0, 1), 9)])
    assert journal_path(tmp_path, 1).read_bytes() == before
    again.keep([grown(make_life(0, 1), 10), grown(make_life(1, 1), 3)])
    lives = read_journal(tmp_path)
    assert [(life.segment, life.node, total_microjoules([life]) // 10**6) for life in lives] == [
        (0, 1, 10),
        (0, 2, 5),
        (1, 1, 3),
    ]


def test_nodes_copies_of_a_node_that_tells_nothing_are_not_made(tmp_path):
    Copies(tmp_path).keep([])
    assert list(tmp_path.iterdir()) == []
