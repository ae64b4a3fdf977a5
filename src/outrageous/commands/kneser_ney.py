"""Estimate the 5-gram baseline of table 7 or 8, on the text and vocabulary of that table's models.

python -m outrageous.commands.kneser_ney table_7 --scale pocket

Leaves a record beside those of the trained models; outrageous-reproduce does the same by itself. Further arguments are
settings, as outrageous-train takes them.
"""

import argparse

from outrageous.commands.errors import one_clear_message
from outrageous.results.records import Record

# The record's experiment, and the one whose text and vocabulary it shares.
BASELINES = {
    "table_7": ("lm/kneser_ney_5gram", "lm/4xlstm_512"),
    "table_8": ("lm/news_kneser_ney_5gram", "lm/news_4xlstm_512"),
}


@one_clear_message
def main(argv: list[str] | None = None) -> int:
    """0 when done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=BASELINES)
    parser.add_argument("--scale", default="pocket", help="a file under conf/scale (default: pocket)")
    parser.add_argument("settings", nargs="*", help="such as data=text 'data.path=books/*.txt'")
    arguments = parser.parse_intermixed_args(argv)
    record = estimate(arguments.table, arguments.scale, arguments.settings)
    figures = ", ".join(f"{name} {value:.4g}" for name, value in record.metrics.items())
    print(f"{record.experiment} ({record.scale}): {figures}; {record.parameters:,} parameters")
    return 0


def estimate(table: str, scale: str, settings: list[str]) -> Record:
    """The record of the table's baseline, made now or before. Raises UserError as `run_kneser_ney` does."""
    # Imported here, so that --help answers at once.
    from outrageous.commands.compose import run_config, table_row
    from outrageous.training.ngram_run import run_kneser_ney

    name, like = BASELINES[table]
    overrides = [f"experiment={like}", f"scale={scale}", *settings]
    config = run_config(overrides)
    row = name.split("/")[-1] if table_row(config, overrides) else None
    record, _ = run_kneser_ney(name, row, config)
    return record


if __name__ == "__main__":
    raise SystemExit(main())
