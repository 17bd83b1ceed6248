"""finetune.inspection.drawing, picture and heads: what is drawn is what is allowed."""

import re
from pathlib import Path

import pytest

from finetune.errors import FinetuneError
from finetune.inspection.drawing import cells, drawn, draws_blocks
from finetune.inspection.heads import describe_heads, habit, heat_map, mean_of
from finetune.inspection.inspect import inspect_checkpoint
from finetune.inspection.masks import Mask
from finetune.inspection.picture import write_picture

CAUSAL, CROSS = Mask("decoder", "decoder", "causal"), Mask("decoder", "encoder", "cross")


def test_drawing_of_a_causal_mask_is_a_triangle():
    lines = drawn([CAUSAL], blocks=False).splitlines()
    assert lines[0] == "decoder: causal"
    assert lines[1:] == ["#" * 2 * n + "." * 2 * (8 - n) for n in range(1, 9)]


def test_drawings_stand_side_by_side_while_there_is_room():
    assert len(drawn([CAUSAL, CROSS], blocks=True, width=100).splitlines()) == 9
    assert len(drawn([CAUSAL, CROSS], blocks=True, width=30).splitlines()) == 2 * 9 + 1
    assert drawn([CAUSAL, CROSS], blocks=False).isascii()


def test_drawing_takes_blocks_only_where_the_terminal_has_them():
    assert draws_blocks("utf-8")
    assert not draws_blocks("ascii")
    assert not draws_blocks(None)


def test_picture_has_a_square_for_each_pair_in_the_colour_of_what_is_allowed(checkpoints, tmp_path):
    found = inspect_checkpoint(str(checkpoints("bart")), Path("no-runs"))
    assert write_picture(found, tmp_path / "masks.svg").startswith("wrote ")
    colours = re.findall(
        r'<rect x="\d+" y="\d+" width="20" height="20" fill="(#\w+)"', (tmp_path / "masks.svg").read_text()
    )
    allowed = [cell for mask in found.masks for row in cells(mask) for cell in row]
    assert len(colours) == len(allowed) == 64 + 64 + 48
    assert len({(colour, cell) for colour, cell in zip(colours, allowed, strict=True)}) == 2


def test_picture_as_png(checkpoints, tmp_path):
    pytest.importorskip("matplotlib")
    write_picture(inspect_checkpoint(str(checkpoints("gpt2")), Path("no-runs")), tmp_path / "masks.png")
    assert (tmp_path / "masks.png").read_bytes().startswith(b"\x89PNG")


def test_picture_of_a_model_without_masks_is_an_error(other_checkpoints, tmp_path):
    with pytest.raises(FinetuneError, match="no attention"):
        write_picture(inspect_checkpoint(str(other_checkpoints("mamba")), Path("no-runs")), tmp_path / "masks.svg")


PREVIOUS = [[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]]
UNIFORM = [[0.1] * 10] * 10


@pytest.mark.parametrize(
    ("square", "words"),
    [
        ([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]], "itself 100%"),
        ([[0, 1.0, 0], [0, 0, 1.0], [0, 1.0, 0]], "next 100%"),
        ([[1.0, 0, 0]] * 3, "first 100%"),
        ([[0, 0.4, 0.6]] * 3, "last 60%"),
        (PREVIOUS, "previous 100%"),
        (UNIFORM, "broad"),
    ],
)
def test_habit_is_where_a_head_looks_most(square, words):
    assert habit(square) == words


def test_heat_map_shades_by_share():
    assert heat_map([[0.7, 0.2], [0.0, 0.4]], ["a", "longer"], blocks=False) == ["     a |##::|", "longer |  **|"]
    assert mean_of([[[1.0, 0.0]], [[0.0, 1.0]]]) == [[0.5, 0.5]]


def test_heads_as_text_names_the_layer_and_refuses_another():
    heads = {"tokens": ["a", "b", "c"], "parts": {"self": [[PREVIOUS, PREVIOUS]]}}
    text = describe_heads(heads, None, blocks=False)
    assert text.startswith("attention of layer 1, mean of 2 heads")
    assert "    1  previous 100%  previous 100%" in text
    with pytest.raises(FinetuneError, match="layers 1 to 1"):
        describe_heads(heads, 2, blocks=False)
