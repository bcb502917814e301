"""Tables of text cells for terminals and for Markdown. The first row is the heading, the first column the labels."""

from __future__ import annotations


def text_table(table: list[list[str]]) -> list[str]:
    """Lines with aligned columns; the star of a marked cell stands right of the column of digits."""
    padded = [[row[0], *(cell if cell.endswith("*") else f"{cell} " for cell in row[1:])] for row in table]
    widths = [max(len(row[column]) for row in padded) for column in range(len(padded[0]))]
    lines = []
    for first, *others in padded:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return lines


def markdown_table(table: list[list[str]]) -> list[str]:
    """Lines of a Markdown table, numbers to the right."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in table]
    ruler = ["---", *["---:"] * (len(table[0]) - 1)]
    return [f"| {' | '.join(row)} |" for row in (rows[0], ruler, *rows[1:])]
