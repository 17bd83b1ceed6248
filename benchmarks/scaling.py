"""A paper estimate of training on 1 to 64 GPUs: `python -m benchmarks.scaling` prints it, docs/scaling.md holds it.

Nothing here was measured. Formulas, for n GPUs that each keep the same batch:

    compute time       6 × parameters in layers × tokens a GPU / (peak × utilisation), 2 of the 6 in the forward pass
    data a GPU sends   2 (n − 1) / n × bytes of the gradients, as in a ring all-reduce
    exchange time      data / bandwidth of the slowest link + 2 (n − 1) × latency; a node's GPUs share its network
    step               k × compute + exchange, k being gradient_accumulation_steps; at best, as much of the exchange is
                       hidden as the last backward pass takes (2/3 of the compute time)
    efficiency         k × compute / step
"""

from dataclasses import dataclass

GPUS = (1, 2, 4, 8, 16, 32, 64)
GPUS_PER_NODE = 8
ACCUMULATED = (1, 8)
GRADIENT_BYTES = 4  # weights and gradients stay float32 under mixed precision
PEAK_FLOPS = 312e12  # bfloat16, dense: an A100's data sheet
UTILISATION = 0.4
NVLINK_BYTES_PER_S = 0.8 * 300e9  # each direction, four fifths of the data sheet
LATENCY_S = 10e-6


@dataclass(frozen=True)
class Model:
    """A model and what one GPU computes of it in a step."""

    name: str
    parameters: float
    layer_parameters: float  # without embeddings, which are looked up and not multiplied
    rows: int
    tokens_per_row: int


@dataclass(frozen=True)
class Network:
    """What joins two nodes; bytes a second for a whole node and one direction."""

    name: str
    bytes_per_s: float


MODELS = (
    Model("BERT-base", 110e6, 86e6, 32, 128),
    Model("a decoder of 1.3 billion parameters", 1.3e9, 1.2e9, 8, 512),
)
NETWORKS = (Network("InfiniBand 200 Gbit/s", 0.8 * 25e9), Network("Ethernet 10 Gbit/s", 0.8 * 1.25e9))


def compute_s(model: Model) -> float:
    """Return the seconds of forward and backward pass on one GPU."""
    return 6 * model.layer_parameters * model.rows * model.tokens_per_row / (PEAK_FLOPS * UTILISATION)


def sent_bytes(model: Model, gpus: int) -> float:
    """Return what each GPU sends in a ring all-reduce of the gradients."""
    return 2 * (gpus - 1) / gpus * model.parameters * GRADIENT_BYTES


def exchange_s(model: Model, gpus: int, network: Network) -> float:
    """Return the seconds of the all-reduce over the slowest link of the ring."""
    slowest = NVLINK_BYTES_PER_S if gpus <= GPUS_PER_NODE else min(NVLINK_BYTES_PER_S, network.bytes_per_s)
    return sent_bytes(model, gpus) / slowest + 2 * (gpus - 1) * LATENCY_S


def efficiency(model: Model, gpus: int, network: Network, accumulated: int, *, overlapped: bool) -> float:
    """Return the share of the step in which the GPUs compute.

    The exchange comes once in `accumulated` micro-batches; `overlapped` hides it behind the last backward pass.
    """
    hidden = 2 / 3 * compute_s(model) if overlapped else 0.0
    computing = accumulated * compute_s(model)
    return computing / (computing + max(0.0, exchange_s(model, gpus, network) - hidden))


def table() -> str:
    """Return the estimate as markdown, one table a model."""
    parts = []
    for model in MODELS:
        parts += [
            f"**{model.name}**, {model.rows} rows of {model.tokens_per_row} tokens a GPU, "
            f"{1000 * compute_s(model):.0f} ms of computing a step (estimate)",
            "",
            "| GPUs | nodes | sent by each GPU a step | "
            + " | ".join(
                f"{network.name}: exchange" + "".join(f" | efficiency, k = {k}" for k in ACCUMULATED)
                for network in NETWORKS
            )
            + " |",
            "|---:" * (3 + (1 + len(ACCUMULATED)) * len(NETWORKS)) + "|",
        ]
        for gpus in GPUS:
            cells = [str(gpus), str(-(-gpus // GPUS_PER_NODE)), f"{sent_bytes(model, gpus) / 1e9:.2f} GB"]
            for network in NETWORKS:
                cells.append(f"{1000 * exchange_s(model, gpus, network):,.0f} ms")
                cells += [_percent(model, gpus, network, accumulated) for accumulated in ACCUMULATED]
            parts.append("| " + " | ".join(cells) + " |")
        parts.append("")
    return "\n".join(parts)


def _percent(model: Model, gpus: int, network: Network, accumulated: int) -> str:
    low, high = (
        f"{100 * efficiency(model, gpus, network, accumulated, overlapped=overlapped):.0f}"
        for overlapped in (False, True)
    )
    return f"{low} %" if low == high else f"{low}–{high} %"


if __name__ == "__main__":
    print(table())
