from dataclasses import replace

import pytest

from finetune.cli.app import main
from finetune.errors import FinetuneError
from finetune.runs.record import list_runs, write_run
from finetune.study.definition import read_study
from finetune.study.outlook import plan_text
from finetune.study.plan import read_state
from finetune.study.results import make_results
from finetune.study.worker import work
from finetune.sweep.trial import Conditions
from finetune.training.words import Request
from tests.study.conftest import STRATEGIES

SMALL = {"rows": [100, 400], "seeds": [1]}


def go_on(study, play):
    return work(study, Conditions(Request(()), allow_shared=True), play.launch)


def names(play):
    return [next(word for word in words if word.startswith("name="))[5:] for words, _ in play.commands]


def ends(status, code, signum=None, **changes):
    def end(run):
        write_run(replace(run, status=status, **changes), run.directory)
        return code, signum

    return end


def test_worker_searches_first_unseen_by_the_test_split_and_takes_the_best_rate(study_file, play):
    study = read_study(study_file(**SMALL))
    ending = go_on(study, play)
    assert (ending.code, ending.failed) == (0, {})
    assert len(play.commands) == 4 + 4
    sees_test = [options["trial"] is None for _, options in play.commands]
    assert sees_test == [False] * 4 + [True] * 4
    assert all(options["group"] == "pay" for _, options in play.commands)
    assert read_state(study).rates == {"full": 3e-4, "scratch": 1e-3}
    cells = [words for words, _ in play.commands[4:]]
    assert all("training.learning_rate=0.001" in words for words in cells if 'model.init="scratch"' in words)
    go_on(study, play)
    assert len(play.commands) == 8  # nothing is made twice


def test_worker_goes_on_after_a_kill_without_losing_or_repeating_anything(study_file, play, tmp_path):
    study = read_study(study_file(**SMALL))
    play.endings["pay-full-100-s1"] = ends("interrupted", 143, 15)
    ending = go_on(study, play)
    assert ending.code == 143
    assert "goes on" in ending.reason
    assert len(play.commands) == 5
    assert go_on(study, play).code == 0
    assert names(play)[5] == "pay-full-100-s1"
    assert play.commands[5][1]["resume"] is True
    assert len(list_runs(tmp_path / "runs")[0]) == 8
    assert len(play.commands) == 9


def test_worker_leaves_a_failed_cell_behind_and_tries_it_again_the_next_time(study_file, play):
    study = read_study(study_file(**SMALL))
    play.endings["pay-full-400-s1"] = ends("failed", 1, status_reason="no space left on the device")
    ending = go_on(study, play)
    assert dict(ending.failed) == {"pay-full-400-s1": "no space left on the device"}
    assert len(play.commands) == 8
    again = go_on(study, play)
    assert again.failed == {}
    assert names(play)[8:] == ["pay-full-400-s1"]
    assert play.commands[8][1]["resume"] is True


def test_worker_cells_keep_the_rate_that_they_were_made_with(study_file, play):
    study = read_study(study_file(**SMALL))
    play.endings["pay-scratch-lr0.001"] = ends("failed", 1, status_reason="step 3: the loss is not a finite number")
    ending = go_on(study, play)
    assert list(ending.failed) == ["pay-scratch-lr0.001"]
    results = make_results(study, read_state(study), ending.failed)
    assert results.searches[1].chosen == 3e-4
    assert any("not a finite number" in note for note in results.notes)
    # It would have been the best: but to try it again would leave the cells with another rate than the chosen one.
    again = go_on(study, play)
    assert (len(play.commands), again.failed) == (8, {})
    results = make_results(study, read_state(study), again.failed)
    assert any("scratch: no score for the learning rate 0.001; its cells were made with 0.0003" in note
               for note in results.notes)  # fmt: skip
    # The same holds for a candidate that is added later.
    more = {"full": {"training.learning_rate": [1e-4, 3e-4, 1e-3]}, "scratch": STRATEGIES["scratch"]}
    grown = read_study(study_file(**SMALL, strategies=more))
    assert go_on(grown, play).code == 0
    assert len(play.commands) == 8
    other = {"full": {"training.learning_rate": [1e-4, 1e-3]}, "scratch": STRATEGIES["scratch"]}
    with pytest.raises(FinetuneError, match=r"made with another training.learning_rate"):
        go_on(read_study(study_file(**SMALL, strategies=other)), play)


def test_worker_a_failed_candidate_is_tried_again_as_long_as_there_is_no_cell(study_file, play):
    study = read_study(study_file(**SMALL))
    play.endings["pay-full-lr0.0001"] = ends("failed", 1, status_reason="no space left on the device")
    play.endings["pay-full-lr0.0003"] = ends("interrupted", 143, 15)
    assert go_on(study, play).code == 143
    assert go_on(study, play).failed == {}
    assert names(play)[2:4] == ["pay-full-lr0.0001", "pay-full-lr0.0003"]
    assert len(play.commands) == 2 + 8


def test_worker_rows_and_seeds_may_be_added_at_any_place(study_file, play):
    go_on(read_study(study_file(**SMALL)), play)  # searches on 100 rows with seed 1
    grown = read_study(study_file(rows=[100, 400, 1600], seeds=[5, 1]))
    assert (grown.search_rows, grown.search_seed) == (400, 5)  # what a new study would do
    assert go_on(grown, play).code == 0
    assert len(play.commands) == 8 + 8
    assert not any("-lr" in name for name in names(play)[8:])
    assert read_state(grown).rates == {"full": 3e-4, "scratch": 1e-3}
    assert "search   4 runs on 100 rows with seed 1" in plan_text(grown, read_state(grown))
    with pytest.raises(FinetuneError, match=r"made with another dataset.max_train_samples"):
        go_on(read_study(study_file(**SMALL, search_rows=400)), play)


def test_worker_refuses_amounts_of_rows_that_come_to_the_same(study_file, play, capsys):
    play.available = 100
    path = study_file(rows=[40, 160, 640], seeds=[1])
    with pytest.raises(FinetuneError, match=r"rows: 160 and 640 are the same, as there are 100 training rows"):
        go_on(read_study(path), play)
    assert len(play.commands) == 1
    assert main(["study", str(path), "--dry-run"]) == 1
    assert "rows: 160 and 640 are the same" in capsys.readouterr().err
    study = read_study(study_file(rows=[40, 160], seeds=[1]))
    assert go_on(study, play).code == 0
    results = make_results(study, read_state(study), {})
    assert results.amounts == [40, 100]
    assert "160 rows were asked for: there are 100" in results.notes


def test_worker_ends_when_the_first_run_fails_before_its_training(study_file, play):
    study = read_study(study_file(**SMALL))
    play.endings["pay-full-lr0.0001"] = ends("failed", 1, status_reason="no such dataset", emissions={"phases": {}})
    with pytest.raises(FinetuneError, match="before its training began, and the others would as well: no such dataset"):
        go_on(study, play)
    assert len(play.commands) == 1


def test_worker_refuses_runs_that_were_made_with_other_settings(study_file, play):
    go_on(read_study(study_file(**SMALL)), play)
    changed = read_study(study_file(**SMALL, settings={"training.weight_decay": 0.5}))
    with pytest.raises(FinetuneError, match=r"made with another training.weight_decay") as caught:
        go_on(changed, play)
    assert "its own name" in caught.value.hint
    grown = read_study(study_file(rows=[100, 400], seeds=[1, 2]))
    before = len(play.commands)
    go_on(grown, play)
    assert len(play.commands) == before + 4  # another seed is added to what is there
