"""Translate lines of standard input to standard output, one for each, in their order.

outrageous-translate checkpoint=outputs/runs/mt/moe_32_en_de/pocket/seed_0/…/best.ckpt < in > out
outrageous-translate checkpoint=….ckpt --n-best 3 --scores < in      three lines of score<TAB>translation for each
outrageous-translate checkpoint=….ckpt --attention pictures < in     with an image of each line's attention

An empty line stays empty. A line of more than --max-pieces wordpieces is cut there, and stderr says so. Wordpieces are
read from wordpieces.model, which training leaves beside the checkpoint.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from outrageous.commands.errors import one_clear_message
from outrageous.errors import UserError

if TYPE_CHECKING:
    from outrageous.training.translator import Translation, Translator

LINES_AT_ONCE = 256  # sorted by length among each other; as many are held back before they are written


@one_clear_message
def main(argv: list[str] | None = None) -> int:
    """0 when every line is translated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=_checkpoint, help="checkpoint=PATH, a best.ckpt of a translation model")
    parser.add_argument("--to", help="target language, such as de (default: that of the model's one direction)")
    parser.add_argument("--beams", type=int, default=4, help="hypotheses at once; 1: greedy (default: 4)")
    parser.add_argument("--n-best", type=int, default=1, help="translations of each line (default: 1)")
    parser.add_argument("--scores", action="store_true", help="write the score and a tab before each translation")
    parser.add_argument("--attention", type=Path, metavar="FOLDER", help="write line_<n>.png, each line's attention")
    parser.add_argument("--max-pieces", type=int, default=512, help="most wordpieces of a line (default: 512)")
    arguments = parser.parse_args(argv)
    if not 1 <= arguments.n_best <= arguments.beams:
        raise UserError(f"--n-best {arguments.n_best}: must lie between 1 and --beams {arguments.beams}")
    if arguments.max_pieces < 2:
        raise UserError(f"--max-pieces {arguments.max_pieces}: must be at least 2, a wordpiece and the end mark")
    translator, target = _load(arguments.checkpoint, arguments.to, arguments.beams, arguments.max_pieces)
    _translate(translator, target, sys.stdin, sys.stdout, arguments)
    return 0


def _checkpoint(text: str) -> Path:
    return Path(text.removeprefix("checkpoint="))


def _load(path: Path, target: str | None, num_beams: int, max_pieces: int) -> "tuple[Translator, str]":
    """The translator of a checkpoint, and the language it is to translate into."""
    # Imported here, so that --help answers at once.
    import torch

    from outrageous.commands.compose import from_plain
    from outrageous.config import TranslationRunConfig
    from outrageous.models.beam_search import BeamSettings
    from outrageous.training.checkpoints import KEY, read_checkpoint
    from outrageous.training.translator import Translator, load_model

    plain: dict[str, Any] = read_checkpoint(path)[KEY]["config"]
    config = from_plain(plain)
    if not isinstance(config, TranslationRunConfig):
        raise UserError(f"checkpoint {path} is of {config.name}, a language model; give one of a translation model")
    targets = list(dict.fromkeys(direction.split("-")[1] for direction in config.data.directions))
    if target not in (None, *targets) or (target is None and len(targets) > 1):
        raise UserError(f"--to {target}: {config.name} translates into {', '.join(targets)}; name one of these")
    try:
        settings = BeamSettings(num_beams)
    except ValueError as error:
        raise UserError(str(error)) from error
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, wordpieces = load_model(config, path)
    return Translator(model.to(device), wordpieces, settings, max_pieces), target or targets[0]


def _translate(
    translator: "Translator", target: str, source: TextIO, output: TextIO, arguments: argparse.Namespace
) -> None:
    from tqdm import tqdm

    first = 1
    with tqdm(desc=f"to {target}", unit="line", file=sys.stderr, mininterval=1) as bar:
        for lines in _chunks(source):
            found, cut = translator.translate(lines, target, arguments.attention is not None, bar.update)
            for i in cut:
                bar.write(f"line {first + i}: cut after {translator.max_pieces} wordpieces", file=sys.stderr)
            for number, translations in enumerate(found, start=first):
                for one in translations[: arguments.n_best]:
                    output.write(f"{one.score:.4f}\t{one.text}\n" if arguments.scores else f"{one.text}\n")
                if arguments.attention is not None:
                    _draw(translations[0], arguments.attention / f"line_{number}.png")
            output.flush()
            first += len(lines)


def _chunks(source: TextIO) -> Iterator[list[str]]:
    """Lines without their ends; one at a time where somebody types them."""
    size = 1 if source.isatty() else LINES_AT_ONCE
    lines = (line.rstrip("\r\n") for line in source)
    try:
        while chunk := list(itertools.islice(lines, size)):
            yield chunk
    except UnicodeDecodeError as error:
        raise UserError(f"standard input is not UTF-8 ({error.reason} at byte {error.start} of a block)") from error


def _draw(translation: "Translation", path: Path) -> None:
    from outrageous.results.attention_image import attention_image
    from outrageous.results.files import write_bytes

    if translation.attention is not None:
        weights = translation.attention.float().cpu().numpy()
        write_bytes(path, attention_image(weights, translation.source, translation.pieces))


if __name__ == "__main__":
    raise SystemExit(main())
