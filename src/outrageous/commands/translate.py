"""Translate lines of standard input to standard output, one for each, in their order.

outrageous-translate checkpoint=outputs/runs/mt/moe_32_en_de/pocket/seed_0/…/best.ckpt < in > out
outrageous-translate checkpoint=….ckpt --n-best 3 --scores < in      three lines of score<TAB>translation for each
outrageous-translate checkpoint=….ckpt --attention pictures < in     with an image of each line's attention

An empty line stays empty. A line of more than --max-pieces wordpieces is cut there, and stderr says so. Wordpieces are
read from wordpieces.model, which training leaves beside the checkpoint. Input and output are UTF-8. Progress goes to
stderr. Translations are written 256 lines at a time, and whenever no further line comes for a moment.

--n-best N writes N lines for each line, best first, empty ones (with --scores, a tab alone) where fewer hypotheses were
found: line n of the input is answered by lines N·(n - 1) + 1 to N·n of the output.
--scores: log(probability) / lp + cp of Wu et al. (2016), lp the length penalty ((5 + words) / 6)^0.2, cp the coverage
penalty 0.2 · Σ log(min(attention, 1)) over the source; at most 0, the higher the better; of an empty line 0. Scores of
different lines do not compare.
--attention: a PNG for each line's best translation, a row for each of its wordpieces, a column for each of the
source's, the darker the more the one was written while looking at the other.
"""

import argparse
import io
import os
import select
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from outrageous.commands.errors import one_clear_message
from outrageous.errors import UserError

if TYPE_CHECKING:
    from outrageous.training.translator import Translation, Translator

LINES_AT_ONCE = 256  # sorted by length among each other; as many are held back before they are written
PAUSE = 0.1  # seconds without a further line, after which those that came are translated
BYTES_AT_ONCE = 1 << 16


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
    _check(arguments)
    translator, target = _load(arguments.checkpoint, arguments.to, arguments.beams, arguments.max_pieces)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # as the input, whatever the locale
    _translate(translator, target, _chunks(_lines(sys.stdin.buffer), LINES_AT_ONCE), sys.stdout, arguments)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Raises UserError where arguments do not fit together, or there is nowhere to read or write."""
    if arguments.beams < 1:
        raise UserError(f"--beams {arguments.beams}: must be at least 1")
    if not 1 <= arguments.n_best <= arguments.beams:
        raise UserError(f"--n-best {arguments.n_best}: must lie between 1 and --beams {arguments.beams}")
    if arguments.max_pieces < 2:
        raise UserError(f"--max-pieces {arguments.max_pieces}: must be at least 2, a wordpiece and the end mark")
    if arguments.attention is not None and arguments.attention.exists() and not arguments.attention.is_dir():
        raise UserError(f"--attention {arguments.attention}: is a file; name a folder, new or old")
    # Python's own word for a stream that was closed before it started, which the types leave out.
    for name in ("stdin", "stdout"):
        if getattr(sys, name) is None:
            raise UserError(f"{name} is closed: give lines on standard input, and standard output a place to go")


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
    from outrageous.training.libraries import quieten
    from outrageous.training.translator import Translator, load_model

    quieten()
    plain: dict[str, Any] = read_checkpoint(path)[KEY]["config"]
    config = from_plain(plain)
    if not isinstance(config, TranslationRunConfig):
        raise UserError(f"checkpoint {path} is of {config.name}, a language model; give one of a translation model")
    targets = list(dict.fromkeys(direction.split("-")[1] for direction in config.data.directions))
    if target is None and len(targets) > 1:
        raise UserError(f"{config.name} translates into {', '.join(targets)}: name one of these, as --to {targets[0]}")
    if target not in (None, *targets):
        raise UserError(f"--to {target}: {config.name} translates into {', '.join(targets)}; name one of these")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, wordpieces = load_model(config, path)
    return Translator(model.to(device), wordpieces, BeamSettings(num_beams), max_pieces), target or targets[0]


def _translate(
    translator: "Translator", target: str, chunks: Iterator[list[str]], output: TextIO, arguments: argparse.Namespace
) -> None:
    from tqdm import tqdm

    written = 0  # lines of the input
    interval = 1 if sys.stderr.isatty() else 30  # a log file wants few lines
    with tqdm(desc=f"to {target}", unit=" lines", file=sys.stderr, mininterval=interval) as bar:
        try:
            for lines in chunks:
                found, cut = translator.translate(lines, target, arguments.attention is not None, bar.update)
                for i in cut:
                    message = f"line {written + i + 1}: cut after {translator.max_pieces} wordpieces"
                    bar.write(message, file=sys.stderr)
                for translations in found:
                    if arguments.attention is not None:
                        _draw(translations[0], arguments.attention / f"line_{written + 1}.png")
                    places = range(arguments.n_best)
                    output.write("".join(_line(translations[i : i + 1], arguments.scores) for i in places))
                    written += 1  # behind each line: Ctrl-C may come between any two
                output.flush()
        except KeyboardInterrupt:
            bar.write(f"interrupted: {written} lines are translated and written, none behind them", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)


def _line(found: "list[Translation]", scores: bool) -> str:
    """A line of output, of one translation or none."""
    if not found:
        return "\t\n" if scores else "\n"
    return f"{found[0].score:.4f}\t{found[0].text}\n" if scores else f"{found[0].text}\n"


def _lines(source: BinaryIO) -> Iterator[bytes | None]:
    """Lines of a stream, without their line feeds; None where no further one has come for PAUSE seconds."""
    number = source.fileno()
    begun: list[bytes] = []  # of a line whose end has not come
    while True:
        while not select.select([number], [], [], PAUSE)[0]:
            yield None
        data = os.read(number, BYTES_AT_ONCE)
        first, *others = data.split(b"\n")
        begun.append(first)
        if others:
            yield b"".join(begun)
            yield from others[:-1]
            begun = others[-1:]
        if not data:
            break
    if rest := b"".join(begun):
        yield rest


def _chunks(lines: Iterable[bytes | None], size: int) -> Iterator[list[str]]:
    """Lines without their ends, as many as come without a pause, `size` at the most. Raises UserError at a line that is
    not UTF-8, behind those before."""
    chunk: list[str] = []
    number = 0
    for raw in lines:
        if raw is not None:
            number += 1
            try:
                chunk.append(raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r"))
            except UnicodeDecodeError as error:
                if chunk:
                    yield chunk
                raise UserError(
                    f"standard input, line {number} is not UTF-8: byte {error.start + 1} is "
                    f"0x{error.object[error.start]:02x}; the {number - 1} lines before it are translated"
                ) from error
        if chunk and (raw is None or len(chunk) == size):
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _draw(translation: "Translation", path: Path) -> None:
    from outrageous.results.attention_image import attention_image
    from outrageous.results.files import write_bytes

    if translation.attention is not None:
        weights = translation.attention.float().cpu().numpy()
        write_bytes(path, attention_image(weights, translation.source, translation.pieces))


if __name__ == "__main__":
    raise SystemExit(main())
