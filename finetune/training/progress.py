"""How far a run has come: all that a resumed run must know besides weights, optimizer and random state."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Progress:
    """The running state of a training; it changes in place and is written into every checkpoint.

    `costs` are the blocks of each kind of work: (units, joules, seconds). `forecasts` are those of the record.
    """

    step: int = 0
    evaluated_step: int = 0
    rows_seen: int = 0
    tokens_seen: int = 0
    padded_tokens_seen: int = 0
    train_runtime_s: float = 0.0
    loss_total: float = 0.0
    loss_since_log: float = 0.0
    steps_since_log: int = 0
    best_score: float | None = None
    best_step: int | None = None
    evaluations_without_best: int = 0
    best_saves: int = 0
    checkpoint_saves: int = 0
    timeline: list[dict[str, Any]] = field(default_factory=list)
    costs: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)
    forecasts: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain data; floats survive JSON exactly."""
        return asdict(self)

    def add_step(self, loss: float, rows: int, tokens: int, padded_tokens: int) -> None:
        """Count one finished optimizer step."""
        self.step += 1
        self.rows_seen += rows
        self.tokens_seen += tokens
        self.padded_tokens_seen += padded_tokens
        self.loss_total += loss
        self.loss_since_log += loss
        self.steps_since_log += 1

    def take_logged_loss(self) -> float:
        """Return the mean loss of the steps since the last line of the log, and start anew."""
        mean = self.loss_since_log / max(self.steps_since_log, 1)
        self.loss_since_log, self.steps_since_log = 0.0, 0
        return mean

    def add_evaluation(self, score: float | None, greater_is_better: bool) -> bool:
        """Count one evaluation; return True when its score is the best so far (an undefined score never is)."""
        self.evaluated_step = self.step
        sign = 1 if greater_is_better else -1
        if score is not None and (self.best_score is None or sign * score > sign * self.best_score):
            self.best_score, self.best_step, self.evaluations_without_best = score, self.step, 0
            return True
        self.evaluations_without_best += 1
        return False
