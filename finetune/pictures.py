"""Pictures of a run."""

from pathlib import Path

from bert.picture import blank, save


def confusion(counts: list[list[int]], labels: list[str], path: Path) -> None:
    """Draw a confusion matrix: gold labels down, predicted ones across, shares of each row as shades."""
    side = max(4.0, 1.8 + 0.55 * len(labels))
    figure = blank(side, side)
    axes = figure.add_subplot()
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, (numbers, of_row) in enumerate(zip(counts, shares, strict=True)):
        for column, (number, share) in enumerate(zip(numbers, of_row, strict=True)):
            color = "white" if share > 0.6 else "black"
            axes.text(column, row, f"{number:,}", ha="center", va="center", color=color, fontsize=7)
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("gold")
    save(figure, path, 120)
