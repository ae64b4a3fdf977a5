"""The test of a translation model beyond perplexity: BLEU of what it writes, and some of that to look at."""

import sys

from tqdm import tqdm

from outrageous.data.parallel_corpus import ParallelCorpus
from outrageous.models.beam_search import BeamSettings
from outrageous.models.gnmt import TranslationModel
from outrageous.results.files import write_bytes
from outrageous.results.translation_metrics import bleu_scores
from outrageous.results.translation_samples import Translated, to_lines
from outrageous.training.run_folder import RunFolder
from outrageous.training.translator import Translator


def score_translations(model: TranslationModel, corpus: ParallelCorpus, folder: RunFolder) -> dict[str, float]:
    """As `bleu_of`, of the whole test part; leaves all sources, references and translations in the folder."""
    translator = Translator(model, corpus.vocabulary, BeamSettings())
    metrics: dict[str, float] = {}
    for direction in corpus.test.rows_of:
        sources, references = corpus.text("test", direction)
        translations = translate_test(translator, sources, direction)
        found, signature = bleu_of(translations, references, direction, several=len(corpus.test.rows_of) > 1)
        text = to_lines(Translated(sources, references, translations, signature))
        write_bytes(folder.translations(direction), text.encode())
        metrics |= found
    return metrics


def translate_test(translator: Translator, sources: list[str], direction: str) -> list[str]:
    """The best translation of each source; stderr shows how far it is."""
    interval = 0.1 if sys.stderr.isatty() else 30  # a log file wants few lines
    with tqdm(total=len(sources), desc=f"test {direction}", unit=" lines", mininterval=interval) as bar:
        found, cut = translator.translate(sources, direction.split("-")[1], done=bar.update)
    if cut:
        print(f"test {direction}: cut {len(cut)} sources after {translator.max_pieces} wordpieces", file=sys.stderr)
    return [best[0].text for best in found]


def bleu_of(
    translations: list[str], references: list[str], direction: str, several: bool
) -> tuple[dict[str, float], str]:
    """test_bleu, test_bleu_compounds_split (English to German only) and test_bleu_sacrebleu, named with the direction
    where there are several; and sacreBLEU's signature."""
    scores = bleu_scores(translations, references, direction)
    named = {
        "test_bleu": scores.tokenised,
        "test_bleu_compounds_split": scores.compounds_split,
        "test_bleu_sacrebleu": scores.sacrebleu,
    }
    suffix = f"_{direction.replace('-', '_')}" if several else ""
    return {f"{name}{suffix}": value for name, value in named.items() if value is not None}, scores.signature
