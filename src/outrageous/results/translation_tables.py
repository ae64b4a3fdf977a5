"""Tables 2 and 3 and figure 4: translation of English to French and to German."""

from outrageous.results.paper_tables import OPS, Column, CurveSet, PaperTable, metric
from outrageous.results.summary import RowSummary


def _billions(summary: RowSummary) -> str:
    return f"{summary.total_parameters / 1e9:.4f}"


PERPLEXITY = Column("perplexity", "test_perplexity", metric("test_perplexity"))
BLEU = Column("BLEU,\ntokenised", "test_bleu", metric("test_bleu"))
COMPOUNDS_SPLIT = Column("BLEU,\ncompounds split", "", metric("test_bleu_compounds_split"))
SACREBLEU = Column("sacreBLEU", "", metric("test_bleu_sacrebleu"))
SIZES = (OPS, Column("total params\n(B)", "total_params_billions", _billions))
OURS = "Ours: mean ± sample standard deviation (number of seeds), of the whole test part; beams of 4."
SAME_ROWS = (
    "moe_2048 is our mt/moe_2048_h; of models in rows without a printed figure, the paper prints a curve (figure 4)."
)
METRICS = (
    "perplexity: per wordpiece, not comparable between vocabularies; BLEU, tokenised: multi-bleu.perl's, of text "
    "tokenised by Moses, as in print; sacreBLEU: 13a of plain text (nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp)."
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
        column_notes=(METRICS, COUNTED),
        models=("moe_0", "moe_32", "moe_512_h"),
    )


TABLE_2 = _table("table_2", "Table 2 (English to French)", "en_fr", (PERPLEXITY, BLEU, SACREBLEU, *SIZES))
TABLE_3 = _table(
    "table_3", "Table 3 (English to German)", "en_de", (PERPLEXITY, BLEU, COMPOUNDS_SPLIT, SACREBLEU, *SIZES)
)
TRANSLATION_TABLES = (TABLE_2, TABLE_3)
FIGURE_4 = (
    CurveSet("figure_4_en_fr", "Figure 4, English to French", TABLE_2),
    CurveSet("figure_4_en_de", "Figure 4, English to German", TABLE_3),
)
