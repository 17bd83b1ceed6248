import pytest

from finetune.emissions.host import boot_id, node_rank


@pytest.mark.parametrize(
    ("environment", "rank"),
    [({}, 0), ({"GROUP_RANK": "1", "SLURM_NODEID": "3"}, 1), ({"SLURM_NODEID": "3"}, 3), ({"GROUP_RANK": ""}, 0)],
)
def test_node_rank_is_the_launchers(environment, rank):
    assert node_rank(environment) == rank


def test_boot_id_stays_the_same():
    assert boot_id() == boot_id()
