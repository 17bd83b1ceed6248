"""Pruning: who falls behind the better half, and that a trial which went on after a kill is no rival of itself."""

from finetune.sweep.account import trials
from finetune.sweep.asking import Question, as_option, as_trial
from finetune.sweep.halving import falls_behind
from finetune.sweep.store import should_prune


def test_halving_the_better_half_goes_on():
    def asked(*scores, greater=True, number=1):
        reports = {label: {number: score} for label, score in enumerate(scores)}
        return [falls_behind(reports, label, number, greater) for label in reports]

    assert asked(0.5) == [False]
    assert asked(0.5, 0.6) == [True, False]
    assert asked(0.5, 0.6, greater=False) == [False, True]
    assert asked(0.5, 0.6, 0.7) == [True, True, False]  # a half of three is one
    assert asked(0.4, 0.7, 0.7, 0.5) == [True, False, False, True]
    assert asked(0.5, 0.6, number=3) == [False, False]  # nobody is asked after the third evaluation
    assert asked(0.5, 0.6, number=4) == [True, False]


def test_halving_only_those_that_came_so_far_compete():
    reports = {0: {1: 0.9, 2: 0.3}, 1: {1: 0.1, 2: 0.4}, 2: {1: 0.8}}
    assert falls_behind(reports, 0, 2, True)
    assert not falls_behind(reports, 1, 2, True)


def ask(worker, entry, step, value):
    return should_prune(worker.store.place, worker.sweep.name, entry.number, step, value)


def test_halving_a_trial_that_goes_on_is_no_rival_of_itself(new_worker, sweep_file):
    worker = new_worker(sweep_file(pruning="successive_halving", sampler="random", trials=4))
    store = worker.store
    first, other = store.draw(), store.draw()
    assert not ask(worker, first, 1, 0.6)
    assert ask(worker, other, 1, 0.5)
    store.give_up(first)
    again = store.draw()
    assert again.label == first.label
    # Goes on from a checkpoint before its first evaluation; the other one is its only rival.
    assert not ask(worker, again, 1, 0.55)
    assert not ask(worker, again, 2, 0.7)
    third = store.draw()
    assert not ask(worker, third, 1, 0.56)  # one of three may pass: against 0.6, of a life that is over, it would not
    assert not ask(worker, first, 4, 0.1)  # a life that was taken for dead harms nobody
    assert len(trials(store.entries())) == 3


def test_halving_a_score_that_is_not_defined_is_not_reported(new_worker, sweep_file):
    worker = new_worker(sweep_file(pruning="successive_halving"))
    entry = worker.store.draw()
    question = Question(worker.store.place, worker.sweep.name, entry.number, "accuracy")
    trial = as_trial(as_option(question))
    assert trial.ask(1, {"metrics": {"accuracy": None}}) is None
    assert trial.ask(2, {"metrics": {"accuracy": 0.5}}) is None
    [known] = [each.intermediate_values for each in worker.store.study.get_trials() if each.number == entry.number]
    assert known == {2: 0.5}
    assert as_trial(as_option(None)).ask is None
