"""The test of a translation model beyond perplexity: BLEU of what it writes, and some of that to look at."""

import sys

from tqdm import tqdm

from outrageous.data.parallel_corpus import ParallelCorpus
from outrageous.models.beam_search import BeamSettings
from outrageous.models.gnmt import TranslationModel
from outrageous.results.files import write_bytes
from outrageous.results.translation_metrics import bleu_scores
from outrageous.training.run_folder import RunFolder
from outrageous.training.translator import Translator


def score_translations(model: TranslationModel, corpus: ParallelCorpus, folder: RunFolder) -> dict[str, float]:
    """test_bleu, test_bleu_compounds_split (English to German only) and test_bleu_sacrebleu of the whole test part,
    with the direction in their names where there are several; leaves all sources, references and translations in the
    folder."""
    translator = Translator(model, corpus.vocabulary, BeamSettings())
    metrics: dict[str, float] = {}
    for direction in corpus.test.rows_of:
        sources, references = corpus.text("test", direction)
        interval = 0.1 if sys.stderr.isatty() else 30  # a log file wants few lines
        with tqdm(total=len(sources), desc=f"test {direction}", unit="line", mininterval=interval) as bar:
            found, _ = translator.translate(sources, direction.split("-")[1], done=bar.update)
        translations = [best[0].text for best in found]
        scores = bleu_scores(translations, references, direction)
        write_bytes(folder.translations(direction), _as_text(sources, references, translations, scores.signature))
        named = {
            "test_bleu": scores.tokenised,
            "test_bleu_compounds_split": scores.compounds_split,
            "test_bleu_sacrebleu": scores.sacrebleu,
        }
        suffix = f"_{direction.replace('-', '_')}" if len(corpus.test.rows_of) > 1 else ""
        metrics |= {f"{name}{suffix}": value for name, value in named.items() if value is not None}
    return metrics


def _as_text(sources: list[str], references: list[str], translations: list[str], signature: str) -> bytes:
    """Three lines for each pair, the signature of BLEU at the head."""
    lines = [f"sacreBLEU: {signature}", ""]
    for source, reference, translation in zip(sources, references, translations, strict=True):
        lines += [f"source       {source}", f"reference    {reference}", f"translation  {translation}", ""]
    return "\n".join(lines).encode()
