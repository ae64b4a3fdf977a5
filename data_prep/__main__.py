"""Download, verify and unpack the corpora of the paper, to verified plain text.

python -m data_prep lm1b                       One Billion Word
python -m data_prep wmt14 --pair en-de         WMT'14 English-German; without --pair English-French too

An interrupted command goes on when it is given again. What ends up where: data_prep/README.md.
"""

import argparse
from pathlib import Path

from data_prep.sources import SOURCES
from outrageous.commands.errors import one_clear_message

PAIRS = ("en-de", "en-fr")


@one_clear_message
def main(argv: list[str] | None = None, sources: Path = SOURCES) -> int:
    """0 when all is there and verified."""
    parser = argparse.ArgumentParser(
        prog="python -m data_prep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", choices=["lm1b", "wmt14"])
    parser.add_argument("--to", type=Path, default=Path("outputs/downloads"), help="(default: outputs/downloads)")
    parser.add_argument(
        "--mirror", help="a server with the same paths as www.statmt.org, such as http://mirror.example"
    )
    parser.add_argument("--archive", type=Path, nargs="+", default=[], help="archives that you have already")
    parser.add_argument("--pair", choices=PAIRS, help="of wmt14 (default: both)")
    arguments = parser.parse_args(argv)
    if arguments.pair and arguments.corpus != "wmt14":
        parser.error("--pair is of wmt14")

    from data_prep.pairs import write_pairs  # here, so that --help answers at once
    from data_prep.prepare import only_one_at_work, prepare
    from data_prep.sources import read_sources

    corpora = read_sources(sources)
    with only_one_at_work(arguments.to):
        if arguments.corpus == "lm1b":
            folders = prepare(corpora["lm1b"], arguments.to, arguments.mirror, arguments.archive)
        else:
            training = {"en-de": corpora["wmt14-both"], "en-fr": corpora["wmt14-both"] + corpora["wmt14-en-fr"]}
            pairs = [arguments.pair] if arguments.pair else list(PAIRS)
            wanted = corpora["newstest"] + training[pairs[-1]]
            prepare(wanted, arguments.to, arguments.mirror, arguments.archive)
            folders = [write_pairs(training[pair], arguments.to, pair.removeprefix("en-")) for pair in pairs]
    print("\n".join(["Ready:", *map(str, folders)]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
