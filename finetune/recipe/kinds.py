"""The kinds of values that settings hold, and the rules that all sections of a recipe share."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


@dataclass(frozen=True)
class Words:
    """How an error and the reference put a constraint that is a pattern."""

    text: str


def _whole_number(value: Any) -> Any:
    # 1e3 is a float in YAML, and a person who writes it for a count means 1000.
    return int(value) if isinstance(value, float) and value.is_integer() else value


WholeNumber = Annotated[int, BeforeValidator(_whole_number)]
Count = Annotated[WholeNumber, Field(ge=1)]
Seed = Annotated[WholeNumber, Field(ge=0, le=2**32 - 1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]

RunName = Annotated[
    str,
    Field(pattern=r"^[^\s/\\:*?\"<>|.\-][^\s/\\:*?\"<>|]*$", max_length=80),
    Words("a text that can name a folder: no spaces, slashes or wildcards, at most 80 characters"),
]


class Section(BaseModel):
    """The rules that all sections share: frozen, no unknown key, no silent conversion (`"3"` is not 3)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
