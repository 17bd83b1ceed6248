"""finetune.training.interrupts: where a signal is taken, and how often."""

import contextlib
import os
import signal

import pytest

from finetune.training import interrupts
from finetune.training.interrupts import Interrupted, Interrupts


def send(signum):
    os.kill(os.getpid(), signum)


def test_interrupts_outside_a_deferral_raise_at_once():
    with Interrupts(), pytest.raises(Interrupted) as caught:
        send(signal.SIGTERM)
    assert caught.value.signum == signal.SIGTERM


def test_interrupts_inside_a_deferral_wait_for_a_safe_place():
    with Interrupts() as taken, taken.deferred():
        send(signal.SIGINT)
        send(signal.SIGINT)  # the same wish once more
        with pytest.raises(Interrupted, match="SIGINT"):
            taken.check()


def test_interrupts_take_a_later_signal_at_once(monkeypatch):
    monkeypatch.setattr(interrupts, "_SAME_WISH_SECONDS", 0.0)
    with Interrupts() as taken, taken.deferred():
        send(signal.SIGINT)
        with pytest.raises(Interrupted):
            send(signal.SIGINT)


def test_interrupts_give_the_handlers_back():
    before = signal.getsignal(signal.SIGINT)
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) is before


def test_check_without_a_signal_does_nothing():
    with Interrupts() as taken, taken.deferred():
        assert taken.check() is None


def test_interrupts_take_a_lost_terminal_unless_it_is_ignored():
    with Interrupts() as taken, taken.deferred():
        send(signal.SIGHUP)
        with pytest.raises(Interrupted, match="SIGHUP"):
            taken.check()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with Interrupts() as taken, taken.deferred():
            send(signal.SIGHUP)
            assert taken.check() is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_error_after_a_swallowed_signal_means_the_signal(monkeypatch):
    error = ImportError("cannot load module more than once per process")
    with Interrupts() as taken:
        assert taken.meant(error) is error
        with contextlib.suppress(Interrupted):  # as numpy does while it is imported
            send(signal.SIGINT)
        assert str(taken.meant(error)) == "SIGINT"
        monkeypatch.setattr(interrupts, "_SAME_WISH_SECONDS", 0.0)  # long ago
        assert taken.meant(error) is error
