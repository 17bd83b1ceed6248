"""Predictions in the user's own words: label names instead of ids."""

from typing import Any

from finetune.tasks import LabelScheme


def label_words(value: Any, labels: LabelScheme) -> Any:
    """Return a label id as its name, 0/1 flags as the list of the names that are set, a number as itself."""
    if not labels.names:
        return value
    if isinstance(value, list):
        return [name for name, flag in zip(labels.names, value, strict=True) if flag]
    return labels.names[value]


def readable(prediction: dict[str, Any], labels: LabelScheme) -> dict[str, Any]:
    """Return one prediction as a line of a result file.

    {prediction, probability of it (single label only), probabilities by label name (not for regression)}.
    """
    choice = prediction["prediction"]
    answer = {"prediction": label_words(choice, labels)}
    if "probabilities" not in prediction:
        return answer
    chances = prediction["probabilities"]
    if not isinstance(choice, list):
        answer["probability"] = chances[choice]
    return {**answer, "probabilities": dict(zip(labels.names, chances, strict=True))}
