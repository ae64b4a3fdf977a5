"""Everything that is shown of some tables at one scale, as the contents of files."""

from collections.abc import Sequence
from pathlib import Path

from outrageous.results import claims, figures
from outrageous.results.curves import learning_curves
from outrageous.results.paper_tables import CurveSet, PaperTable
from outrageous.results.records import Record
from outrageous.results.tables import make_table, to_markdown


def make_exhibits(
    tables: Sequence[PaperTable],
    drawn: Sequence[figures.PaperFigure],
    curves: Sequence[CurveSet],
    published: Path,
    scale: str,
    ours: dict[str, list[Record]],
    command: str,
) -> dict[str, bytes]:
    """File names to contents: the tables and the figures drawn of them, with a column or panel for each of `ours`; the
    claims about those tables, and the learning curves, both of the last of `ours`.

    Raises UserError when a published table is damaged or the seeds of a row have different configs.
    """
    origin, records = list(ours.items())[-1]
    files = {
        f"{form.name}_{scale}.md": to_markdown(make_table(form, published, scale, ours), command).encode()
        for form in tables
    }
    names = [form.name for form in tables]
    verdicts = [claim for claim in claims.check_claims(published, records, scale) if claim.table in names]
    if verdicts:
        files[f"claims_{scale}.md"] = claims.to_markdown(verdicts, scale, command).encode()
    drawings = {
        figure.name: figures.draw(
            figure,
            [
                figures.printed_panel(figure, published),
                *(figures.our_panel(figure, heading, published, each, scale) for heading, each in ours.items()),
            ],
            command,
        )
        for figure in drawn
    }
    for each in curves:
        printed = each.table.printed_rows(published)
        rows = {each.table.row_of(cells): each.table.label(cells) for cells in printed}
        drawings[each.name] = learning_curves(f"{each.title}: {origin}", rows, records, scale, command)
    for name, drawing in drawings.items():
        files[f"{name}_{scale}.svg"] = drawing.svg
        files[f"{name}_{scale}.png"] = drawing.png
    return files
