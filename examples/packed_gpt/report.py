"""What the two runs have to show: the table for the terminal and the picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from packed_gpt.train import RunResult

LOSS_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Comparison:
    """The same training with packed and with padded batches."""

    packed: RunResult
    padded: RunResult
    padding_share: float  # of the padded run's tokens

    @property
    def largest_difference(self) -> float:
        """Over all steps; NaN if any loss is."""
        differences = [abs(a - b) for a, b in zip(self.packed.losses, self.padded.losses, strict=True)]
        return max(differences) if all(d == d for d in differences) else float("nan")

    @property
    def agrees(self) -> bool:
        return self.largest_difference <= LOSS_TOLERANCE

    @property
    def speedup(self) -> float:
        return self.packed.tokens_per_second / self.padded.tokens_per_second


def padding_share(document_batches: list[list[bytes]]) -> float:
    """Of all tokens of batches padded to their longest document, the share that is padding."""
    lengths = [[len(document) for document in documents] for documents in document_batches]
    return 1 - sum(map(sum, lengths)) / sum(max(row) * len(row) for row in lengths)


def checkpoints(num_steps: int, count: int = 8) -> list[int]:
    """About `count` evenly spaced steps, the first and the last among them."""
    return sorted({round(i * (num_steps - 1) / (count - 1)) for i in range(count)})


def comparison_table(result: Comparison) -> Table:
    table = Table(title="Packed documents against padded ones", title_justify="left")
    table.add_column("")
    for title in ("portattn, packed", "torch SDPA, padded", "compared"):
        table.add_column(title, justify="right")
    packed, padded = result.packed, result.padded
    for step in checkpoints(len(packed.losses)):
        a, b = packed.losses[step], padded.losses[step]
        table.add_row(f"loss, step {step + 1}", f"{a:.4f}", f"{b:.4f}", f"{a - b:+.1e}")
    table.add_section()
    padding = f"{result.padding_share:.0%}"
    table.add_row("padding", "none", f"{padding} of tokens", f"{padding} avoided")
    speeds = [f"{run.tokens_per_second:,.0f}" for run in (packed, padded)]
    table.add_row("document tokens/s", *speeds, f"{result.speedup:.2f} x")
    memory = [_gib(run.peak_memory_bytes) for run in (packed, padded)]
    table.add_row("peak memory", *memory, _memory_ratio(packed, padded))
    return table


def verdict(result: Comparison) -> str:
    how = "agree" if result.agrees else "DISAGREE"
    return (
        f"Losses {how}: they differ by at most {result.largest_difference:.1e} over {len(result.packed.losses)} steps "
        f"(allowed: {LOSS_TOLERANCE:g})."
    )


def draw(result: Comparison, path: Path) -> None:
    """Loss curves over each other on the left, throughput on the right."""
    import matplotlib

    matplotlib.use("Agg")  # draws without a display
    from matplotlib import pyplot

    figure, (loss, speed) = pyplot.subplots(1, 2, figsize=(10, 4), width_ratios=(3, 2), layout="constrained")
    steps = range(1, len(result.packed.losses) + 1)
    loss.plot(steps, result.padded.losses, color="tab:orange", linewidth=4, alpha=0.5, label="torch SDPA, padded")
    loss.plot(steps, result.packed.losses, color="tab:blue", linewidth=1.5, label="portattn, packed")
    loss.set(xlabel="step", ylabel="loss (nats per byte)")
    loss.set_title(f"Loss: at most {result.largest_difference:.0e} apart", loc="left")
    loss.legend(frameon=False)
    speeds = [result.padded.tokens_per_second, result.packed.tokens_per_second]
    bars = speed.bar(["torch SDPA,\npadded", "portattn,\npacked"], speeds, color=["tab:orange", "tab:blue"], width=0.6)
    speed.bar_label(bars, [f"{value:,.0f}" for value in speeds])
    speed.set_ylabel("document tokens per second")
    speed.set_title(f"{result.speedup:.2f} x the speed ({result.padding_share:.0%} padding)", loc="left")
    for axes in (loss, speed):
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _gib(num_bytes: int | None) -> str:
    return "not measured" if num_bytes is None else f"{num_bytes / 2**30:.2f} GiB"


def _memory_ratio(packed: RunResult, padded: RunResult) -> str:
    if not packed.peak_memory_bytes or not padded.peak_memory_bytes:
        return ""
    return f"{packed.peak_memory_bytes / padded.peak_memory_bytes:.2f} x"
