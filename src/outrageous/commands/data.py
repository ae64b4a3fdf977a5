"""Corpora without training.

outrageous-data prepare data=lm1b scale=paper          what training with these settings would prepare first
outrageous-data inspect data=pocket_english            counts, coverage, lengths, samples, and a figure of them
outrageous-data inspect data=pocket_en_de              the same of pairs (both prepare the corpus first if need be)
outrageous-data generate FOLDER --words 300000000      text in the form of One Billion Word, to measure speed with

Settings are as outrageous-train takes them; `data.max_size` may depend on the scale.
"""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from outrageous.commands.compose import CONF, compose_train, settings_errors
from outrageous.commands.errors import one_clear_message
from outrageous.config import CorpusConfig, ParallelCorpusConfig
from outrageous.errors import UserError

if TYPE_CHECKING:
    from outrageous.data.inspection import Profile


@one_clear_message
def main(argv: list[str] | None = None) -> int:
    """0 when done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, purpose in (("prepare", "prepare a corpus"), ("inspect", "prepare a corpus and show what it is")):
        command = commands.add_parser(name, help=purpose)
        command.add_argument("settings", nargs="*", help="such as data=lm1b scale=paper")
    generate = commands.add_parser("generate", help="write text that means nothing, of any size")
    generate.add_argument("folder", type=Path)
    generate.add_argument("--words", type=int, default=300_000_000, help="of training text (default: 300000000)")
    generate.add_argument("--types", type=int, default=800_000, help="different words (default: 800000)")
    generate.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    if arguments.command == "generate":
        return _generate(arguments.folder, arguments.words, arguments.types, arguments.seed)
    return _show(arguments.settings, in_full=arguments.command == "inspect")


def _generate(folder: Path, num_words: int, num_types: int, seed: int) -> int:
    from outrageous.data.generated import NUM_SHARDS, generate

    if num_words < NUM_SHARDS or num_types < 1 or seed < 0:
        raise UserError(
            f"--words {num_words} --types {num_types} --seed {seed}: at least {NUM_SHARDS} words, one type and seed 0"
        )
    generate(folder, num_words, num_types, seed)
    print(f"Wrote {folder}")
    return 0


def _show(settings: list[str], in_full: bool) -> int:
    config, folder = _corpus(settings)
    if isinstance(config, CorpusConfig):
        from outrageous.data import inspection
        from outrageous.data.corpus import prepare_corpus

        corpus = prepare_corpus(config, folder)
        print(place := folder / f"{config.name}-{corpus.fingerprint}")
        if not in_full:
            print(f"{corpus.meta['parts']['train']['words']:,} words of training")
            return 0
        profile = inspection.profile(corpus)
        print(inspection.describe(corpus, profile))
    else:
        from outrageous.data import pair_inspection
        from outrageous.data.parallel_corpus import prepare_parallel

        pairs = prepare_parallel(config, folder)
        print(place := pairs.folder)
        if not in_full:
            print(f"{len(pairs.train):,} pairs of training")
            return 0
        profile = pair_inspection.profile(pairs)
        print(pair_inspection.describe(pairs, profile))
    _draw(profile, place, f"outrageous-data inspect {shlex.join(settings)}")
    return 0


def _corpus(settings: list[str]) -> tuple[CorpusConfig | ParallelCorpusConfig, Path]:
    """The corpus that the settings name, and the folder of prepared ones."""
    from omegaconf import OmegaConf

    composed = compose_train([*_task(settings), *settings])
    with settings_errors(settings):
        config = OmegaConf.to_object(composed.data)
    assert isinstance(config, CorpusConfig | ParallelCorpusConfig), config
    return config, Path(composed.paths.corpora)


def _task(settings: list[str]) -> list[str]:
    """What tells Hydra that data=… is pairs, whose settings have another form, where no experiment does."""
    from omegaconf import OmegaConf

    given = dict(setting.split("=", 1) for setting in settings if "=" in setting)
    file = CONF / "data" / f"{given.get('data')}.yaml"
    if given.keys() & {"experiment", "task"} or not file.is_file():
        return []
    return ["task=translation"] if "directions" in OmegaConf.load(file).keys() else []  # noqa: SIM118 (also one to be given)


def _draw(profile: "Profile", place: Path, command: str) -> None:
    from outrageous.results.corpus_figure import corpus_figure
    from outrageous.results.files import write_bytes

    drawing = corpus_figure(place.name, **vars(profile), command=command)
    for name, data in (("inspection.svg", drawing.svg), ("inspection.png", drawing.png)):
        write_bytes(place / name, data)
        print(f"drawn: {place / name}")


if __name__ == "__main__":
    raise SystemExit(main())
