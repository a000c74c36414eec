"""Trains a small GPT twice on the same documents, packed with portattn and padded with torch SDPA, and compares.

Both runs start from the same weights and see the same batches of documents, so their losses must agree; the packed run
spends no time on padding. Without a GPU it takes a minute or two on two cores.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from packed_gpt.batches import PackedBatch, PaddedBatch
from packed_gpt.corpus import load_documents
from packed_gpt.model import ModelConfig
from packed_gpt.report import Comparison, checkpoints, comparison_table, draw, padding_share, verdict
from packed_gpt.train import RunResult, TrainConfig, train
from portattn.pytorch import explain

console = Console()


@dataclass(frozen=True)
class Preset:
    """What a kind of device can do in a minute or two."""

    model: ModelConfig
    max_len: int  # bytes of a document
    batch_size: int  # documents
    steps: int
    learning_rate: float
    dtype: torch.dtype


CPU = Preset(
    model=ModelConfig(num_layers=4, num_heads=4, num_heads_kv=2, head_dim=32),
    max_len=2048,
    batch_size=4,
    steps=60,
    learning_rate=6e-3,
    dtype=torch.float32,
)


def gpu_preset(device: torch.device) -> Preset:
    """A larger model, and as many documents a batch as leave the padded run 40 % of the memory to spare."""
    model, max_len = ModelConfig(num_layers=12, num_heads=16, num_heads_kv=4, head_dim=64), 4096
    activation_bytes_per_token = 52 * model.width * model.num_layers
    free_bytes, _ = torch.cuda.mem_get_info(device)
    batch_size = int(0.6 * free_bytes / (activation_bytes_per_token * max_len))
    return Preset(model, max_len, min(max(batch_size, 2), 64), steps=150, learning_rate=1.5e-4, dtype=torch.bfloat16)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s")
    parser.add_argument("--steps", type=int, help=f"training steps of each run (CPU {CPU.steps})")
    parser.add_argument("--batch-size", type=int, help=f"documents a step (CPU {CPU.batch_size}, GPU: what fits)")
    parser.add_argument("--max-len", type=int, help=f"longer documents are cut to this (CPU {CPU.max_len}, GPU 4096)")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16"], help="default: float32 on the CPU, bfloat16 on a GPU"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the order of documents")
    parser.add_argument("--out", type=Path, default=Path("demo_out"), help="folder for the picture (%(default)s)")
    arguments = parser.parse_args()
    if arguments.steps is not None and arguments.steps < 2:
        parser.error("--steps must be at least 2: the first is not timed")
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device {arguments.device}: this torch ({torch.__version__}) finds no GPU; use --device cpu")
    return arguments


def choose_batches(documents: list[bytes], steps: int, batch_size: int) -> list[list[bytes]]:
    """Consecutive documents, from the start again when they run out."""
    return [[documents[(step * batch_size + i) % len(documents)] for i in range(batch_size)] for step in range(steps)]


def run_with_progress(progress: Progress, name: str, config: TrainConfig, batches: list, batch_type: type) -> RunResult:
    task = progress.add_task(name, total=len(batches), loss="")
    show_loss_at = set(checkpoints(len(batches)))

    def on_step(step: int, loss: torch.Tensor) -> None:
        progress.advance(task)
        if step in show_loss_at:  # reading a loss waits for the device, so not at every step
            progress.update(task, loss=f"loss {loss.item():.3f}")

    return train(config, batches, batch_type, on_step)


def explain_backend(config: TrainConfig, documents: list[bytes]) -> str:
    """Which kernels portattn chose for the packed run, and why not others."""
    batch = PackedBatch.of(documents, config.device)
    shape = (len(batch.tokens), config.model.num_heads, config.model.head_dim)
    q = torch.empty(shape, dtype=config.dtype, device=config.device, requires_grad=True)
    kv = torch.empty_like(q[:, : config.model.num_heads_kv])
    return str(explain(q, kv, kv, **batch.attention_arguments()))


def main() -> int:
    arguments = parse_arguments()
    device = torch.device(arguments.device)
    preset = gpu_preset(device) if device.type == "cuda" else CPU
    dtype = getattr(torch, arguments.dtype) if arguments.dtype else preset.dtype
    config = TrainConfig(preset.model, preset.learning_rate, device, dtype, arguments.seed)

    documents = load_documents(arguments.max_len or preset.max_len, arguments.seed)
    batches = choose_batches(documents, arguments.steps or preset.steps, arguments.batch_size or preset.batch_size)
    lengths = sorted(len(document) for documents in batches for document in documents)
    console.print(
        f"{len(batches)} steps of {len(batches[0])} documents, {lengths[0]} to {lengths[-1]} bytes long "
        f"(median {lengths[len(lengths) // 2]}), on {device_name(device)} in {str(dtype).removeprefix('torch.')}",
        soft_wrap=True,
    )
    console.print("Attention backends for the packed run:")
    console.print(explain_backend(config, batches[0]), highlight=False, soft_wrap=True, style="dim")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[loss]}"), console=console) as progress:
        packed = run_with_progress(progress, "portattn, packed  ", config, batches, PackedBatch)
        padded = run_with_progress(progress, "torch SDPA, padded", config, batches, PaddedBatch)

    result = Comparison(packed, padded, padding_share(batches))
    console.print(comparison_table(result))
    picture = arguments.out / "packed_gpt.png"
    draw(result, picture)
    console.print(f"Picture: {picture}")
    console.print(verdict(result), style="green" if result.agrees else "bold red")
    return 0 if result.agrees else 1


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"the CPU with {torch.get_num_threads()} thread(s)"


if __name__ == "__main__":
    sys.exit(main())
