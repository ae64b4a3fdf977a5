"""Tables 2, 3 and 5 and figure 4: translation of English to French and to German, and of several directions at once."""

from collections.abc import Callable
from pathlib import Path

from outrageous.errors import UserError
from outrageous.results.paper_tables import OPS, Column, CurveSet, PaperTable, PrintedCells, metric, millions
from outrageous.results.published import read_cells
from outrageous.results.summary import RowSummary


def _billions(summary: RowSummary) -> str:
    return f"{summary.total_parameters / 1e9:.4f}"


PERPLEXITY = Column("perplexity", "test_perplexity", metric("test_perplexity"))
BATCHWISE = Column("perplexity,\nmasks by batch", "", metric("test_perplexity_batchwise"))
BLEU = Column("BLEU,\ntokenised", "test_bleu", metric("test_bleu"))
COMPOUNDS_SPLIT = Column("BLEU,\ncompounds split", "", metric("test_bleu_compounds_split"))
SACREBLEU = Column("sacreBLEU", "", metric("test_bleu_sacrebleu"))
SIZES = (OPS, Column("total params\n(B)", "total_params_billions", _billions))
OURS = "Ours: mean ± sample standard deviation (number of seeds), of the whole test part; beams of 4."
SAME_ROWS = (
    "moe_2048 is our mt/moe_2048_h; of models in rows without a printed figure, the paper prints a curve (figure 4); "
    "models of others, and one trained longer, have no experiment here, and -."
)
OF_OTHERS = (
    "moe_2048_longer",
    "gnmt",
    "gnmt_rl",
    "pbmt",
    "lstm_6_layer",
    "lstm_6_layer_posunk",
    "deepatt",
    "deepatt_posunk",
)
METRICS = (
    "perplexity: per wordpiece, not comparable between vocabularies; BLEU, tokenised: multi-bleu.perl's, of text "
    "tokenised by Moses, as in print; sacreBLEU: 13a of plain text (nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp)."
)
MASKS = (
    "perplexity, masks by batch: of strictly balanced gates that choose as in training (Eq. 18), where otherwise "
    "thresholds choose in the test (Eq. 19)."
)
COUNTED = (
    "ops: multiply-adds of a forward pass per timestep, with the softmax; total params: with embeddings and softmax."
)


def _table(name: str, title: str, direction: str, columns: tuple[Column, ...]) -> PaperTable:
    ours = {"moe_2048": "moe_2048_h"}
    return PaperTable(
        name=name,
        title=title,
        heading="model",
        row_of=lambda cells: f"mt_{ours.get(cells['model'], cells['model'])}_{direction}",
        label=lambda cells: cells["model"],
        columns=columns,
        on_terminal=(0, 1),
        legend=("Printed: WMT'14, newstest2014.", OURS, SAME_ROWS),
        column_notes=(METRICS, MASKS, COUNTED),
        models=("moe_0", "moe_32", "moe_512_h"),
        of_others=OF_OTHERS,
    )


TABLE_2 = _table("table_2", "Table 2 (English to French)", "en_fr", (PERPLEXITY, BLEU, SACREBLEU, BATCHWISE, *SIZES))
TABLE_3 = _table(
    "table_3", "Table 3 (English to German)", "en_de", (PERPLEXITY, BLEU, COMPOUNDS_SPLIT, SACREBLEU, BATCHWISE, *SIZES)
)


class MultilingualTable(PaperTable):
    """Table 5, printed with a row for each metric: here each model has a row, as in the other tables."""

    def printed_rows(self, published: Path) -> list[PrintedCells]:
        path = published / f"{self.name}.csv"
        printed = ("gnmt_mono", "gnmt_multi", "moe_multi")
        of_metric = {cells["metric"]: cells for cells in read_cells(path, ["metric", *printed])}
        metrics = [column.printed for column in self.columns if column.printed]
        if lacking := [name for name in metrics if name not in of_metric]:
            raise UserError(f"{path} has no row {', '.join(lacking)}; restore the file")
        rows = [{"model": model} | {name: of_metric[name][model] or "-" for name in metrics} for model in printed]
        return rows + [dict.fromkeys(metrics, "-") | {"model": model} for model in self.models]


def _bleu_of(direction: str) -> Callable[[RowSummary], str]:
    """Of a model of several directions, or of this one alone."""

    def ours(summary: RowSummary) -> str:
        alone = summary.metrics.get("test_bleu", "-") if summary.row.endswith(direction) else "-"
        return str(summary.metrics.get(f"test_bleu_{direction}", alone))

    return ours


def _bleu_column(direction: str, printed: bool) -> Column:
    name = direction.replace("_", "-")
    return Column(f"BLEU\n{name}", f"bleu_{direction}" if printed else "", _bleu_of(direction))


_MULTILINGUAL = {"gnmt_multi": "multilingual_0", "moe_multi": "multilingual"}
TABLE_5 = MultilingualTable(
    name="table_5",
    title="Table 5 (several directions in one model)",
    heading="model",
    row_of=lambda cells: f"mt_{_MULTILINGUAL.get(cells['model'], cells['model'])}",
    label=lambda cells: cells["model"],
    columns=(
        Column("dev\nperplexity", "dev_perplexity", metric("dev_perplexity")),
        *(_bleu_column(direction, printed=True) for direction in ("en_de", "en_fr", "de_en", "fr_en")),
        *(_bleu_column(direction, printed=False) for direction in ("de_fr", "fr_de")),
        OPS,
        Column("total params\n(M)", "total_params_millions", lambda summary: millions(summary.total_parameters)),
    ),
    on_terminal=(0, 1, 2),
    legend=(
        "Printed: twelve directions of Google's own corpora; for four of their seven languages there is no text here.",
        "Ours: mean ± sample standard deviation (number of seeds); BLEU as multi-bleu.perl's, of the whole test part; "
        "beams of 4. gnmt_multi is our mt/multilingual_0, moe_multi without its experts.",
        "gnmt_mono is one model for each direction: ours have rows of their own, run by the sweep figure_4.",
    ),
    column_notes=(
        "dev perplexity: per wordpiece, over all directions; to be compared between the two multilingual models only.",
        COUNTED,
    ),
    models=("moe_0_en_de", "moe_32_en_de", "moe_0_en_fr", "moe_32_en_fr"),
    of_others=("gnmt_mono",),
)
TRANSLATION_TABLES = (TABLE_2, TABLE_3, TABLE_5)
FIGURE_4 = (
    CurveSet("figure_4_en_fr", "Figure 4, English to French", TABLE_2),
    CurveSet("figure_4_en_de", "Figure 4, English to German", TABLE_3),
)
