"""What the paper's tables are made of: rows, columns, and where our figures come from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from outrageous.results.published import read_cells
from outrageous.results.summary import DEV_AFTER_A_TENTH, RowSummary

PrintedCells = dict[str, str]
TEST = "Ours: mean ± sample standard deviation of test perplexity (number of seeds)."
SIZES = "ops: multiply-adds of a forward pass per timestep, without the softmax; params: without embedding and softmax."
NGRAMS = (
    "Our kneser_ney_5gram: nothing is drawn, so one seed is all; params: the numbers stored, a share for each n-gram "
    "and a weight for each context; ops: one multiply-add for each n-gram length."
)


@dataclass(frozen=True)
class Column:
    """heading: its lines are separated by \\n.  printed: its name in the published table, empty where nothing of
    the kind is printed.  ours: the same of a row."""

    heading: str
    printed: str
    ours: Callable[[RowSummary], str]


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    name: its file under results/published.  row_of: the row of our records that a printed row is compared with.
    label: how that row is called, under `heading`.  on_terminal: which columns a terminal shows, all of them printed.
    legend, column_notes: stand below; the latter explain columns that the terminal leaves out.
    row_notes: the same for rows of our records, where there are any.
    models: further rows, of models for which the paper prints a curve and no figure.
    of_others: models in print that no experiment of ours is.
    """

    name: str
    title: str
    heading: str
    row_of: Callable[[PrintedCells], str]
    label: Callable[[PrintedCells], str]
    columns: tuple[Column, ...]
    on_terminal: tuple[int, ...]
    legend: tuple[str, ...]
    column_notes: tuple[str, ...]
    row_notes: dict[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    of_others: tuple[str, ...] = ()

    def printed_rows(self, published: Path) -> list[PrintedCells]:
        """Every row, `-` where nothing is printed. Raises UserError when the published table is damaged."""
        names = [column.printed for column in self.columns if column.printed]
        rows = read_cells(published / f"{self.name}.csv", names)
        rows += [dict.fromkeys(rows[0], "") | {"model": model} for model in self.models]
        return [{name: cell or "-" for name, cell in row.items()} for row in rows]


def millions(count: int) -> str:
    """As in `0.131`, `8.39` and `272.9`; one digit of what would be 0.000."""
    value = count / 1e6
    if value < 0.0005:
        return f"{value:.6f}"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.1f}"


def metric(name: str) -> Callable[[RowSummary], str]:
    """A column of a metric; `-` where it was not measured."""
    return lambda summary: str(summary.metrics.get(name, "-"))


def _model(cells: PrintedCells) -> str:
    return cells["model"]


def _weights(cells: PrintedCells) -> str:
    return f"{cells['w_importance']}, {cells['w_load']}"


def _balance_row(cells: PrintedCells) -> str:
    return f"balance_{float(cells['w_importance']):g}_{float(cells['w_load']):g}"


# Table 1 repeats rows of table 7 under other names.
_OF_TABLE_7 = {
    "best_published": "2xlstm_8192_1024",
    "low_budget_moe": "moe_4096_h",
    "medium_budget_moe": "moe_34m",
    "high_budget_moe": "moe_143m",
}
PERPLEXITY = Column("perplexity", "test_perplexity_10_epochs", metric("test_perplexity"))
OPS = Column("ops\n(M)", "ops_per_timestep_millions", lambda summary: millions(summary.ops_per_timestep))
PARAMS = Column(
    "params\n(M)", "params_excluding_embedding_softmax_millions", lambda summary: millions(summary.parameters)
)
TEN_EPOCHS = "Printed: One Billion Word, test perplexity after 10 epochs; - where the paper prints nothing."

TABLE_1 = PaperTable(
    name="table_1",
    title="Table 1 (language models of three budgets)",
    heading="model",
    row_of=lambda cells: _OF_TABLE_7[_model(cells)],
    label=_model,
    columns=(PERPLEXITY, OPS, PARAMS),
    on_terminal=(0,),
    legend=(
        TEN_EPOCHS,
        TEST,
        "Rows of table 7 under other names: " + ", ".join(f"{new} is {old}" for new, old in _OF_TABLE_7.items()) + ".",
    ),
    column_notes=(SIZES,),
)
TABLE_6 = PaperTable(
    name="table_6",
    title="Table 6 (moe_256 with weights of the balancing losses)",
    heading="w_importance, w_load",
    row_of=_balance_row,
    label=_weights,
    columns=(
        Column("perplexity", "test_perplexity", metric("test_perplexity")),
        Column("CV\n(Importance)", "cv_importance", metric("cv_importance")),
        Column("CV\n(Load)", "cv_load", metric("cv_load")),
        Column("max(Load)\n/ mean(Load)", "max_over_mean_load", metric("max_over_mean_load")),
    ),
    on_terminal=(0, 3),
    legend=(
        "Printed: One Billion Word, test perplexity after 10 epochs.",
        "Ours: mean ± sample standard deviation (number of seeds); perplexity on the test part.",
    ),
    column_notes=("CV and max/mean: of training batches, averaged over the last ones of the run.",),
)
TABLE_7 = PaperTable(
    name="table_7",
    title="Table 7 (language models)",
    heading="model",
    row_of=_model,
    label=_model,
    columns=(PERPLEXITY, OPS, PARAMS),
    on_terminal=(0,),
    legend=(TEN_EPOCHS, TEST),
    column_notes=(SIZES,),
    row_notes={"kneser_ney_5gram": NGRAMS},
)
TABLE_8 = PaperTable(
    name="table_8",
    title="Table 8 (language models on 100 billion words)",
    heading="model",
    row_of=lambda cells: f"news_{_model(cells)}",
    label=_model,
    columns=(
        Column("perplexity\nafter 10%", "test_perplexity_0.1_epochs", metric(DEV_AFTER_A_TENTH)),
        Column("perplexity\nafter 100%", "test_perplexity_1_epoch", metric("test_perplexity")),
        OPS,
        PARAMS,
    ),
    on_terminal=(0, 1),
    legend=(
        "Printed: a corpus of 100 billion words that is not public, test perplexity after 10% and 100% of one pass.",
        "Ours: mean ± sample standard deviation (number of seeds) of dev perplexity after a tenth of the words of the "
        "run (- where it was not measured there) and of test perplexity at its end.",
    ),
    column_notes=(SIZES,),
    row_notes={"news_kneser_ney_5gram": NGRAMS},
)
PAPER_TABLES = (TABLE_1, TABLE_6, TABLE_7, TABLE_8)


@dataclass(frozen=True)
class CurveSet:
    """Learning curves of the rows of a table, in one figure."""

    name: str
    title: str
    table: PaperTable


LEARNING_CURVES = CurveSet("learning_curves", "Learning curves", TABLE_7)
