"""Pictures of a run."""

from pathlib import Path

from bert.picture import blank, save

_READABLE = 40
"""Maximum classes whose numbers are readable in a picture."""


def confusion(counts: list[list[int]], labels: list[str], path: Path) -> None:
    """Draw a confusion matrix: gold labels down, predicted ones across, each row's shares as shades.

    With many classes only the shades are drawn; the numbers would be too small to read.
    """
    many = len(labels) > _READABLE
    side = max(4.0, 1.8 + 0.55 * min(len(labels), _READABLE))
    figure = blank(side, side)
    axes = figure.add_subplot()
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, (numbers, of_row) in enumerate(zip([] if many else counts, [] if many else shares, strict=True)):
        for column, (number, share) in enumerate(zip(numbers, of_row, strict=True)):
            color = "white" if share > 0.6 else "black"
            axes.text(column, row, f"{number:,}", ha="center", va="center", color=color, fontsize=7)
    size = {"fontsize": 4} if many else {}
    axes.set_xticks(range(len(labels)), labels, rotation=90, **size)
    axes.set_yticks(range(len(labels)), labels, **size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("gold")
    save(figure, path, 120)


def scatter(gold: list[float], predicted: list[float], path: Path) -> None:
    """Plot predicted against gold numbers, with the line on which they are equal."""
    figure = blank(4.5, 4.5)
    axes = figure.add_subplot()
    axes.scatter(gold, predicted, s=6, alpha=0.3, linewidths=0)
    ends = [min(*gold, *predicted), max(*gold, *predicted)]
    axes.plot(ends, ends, color="grey", linewidth=0.8)
    axes.set_xlabel("gold")
    axes.set_ylabel("predicted")
    save(figure, path, 120)
