"""Lines are cut into pieces as the training text was, and a model of no numbers is found out."""

from pathlib import Path

import pytest
import torch

from outrageous.commands.compose import translation_config
from outrageous.data.wordpieces import as_learnt
from outrageous.errors import UserError
from outrageous.models.beam_search import BeamSettings
from outrageous.training.translator import Translator, load_model


@pytest.fixture
def translator(tiny_pairs: list[str], trained_translation: Path) -> Translator:
    return Translator(*load_model(translation_config(tiny_pairs), trained_translation / "best.ckpt"), BeamSettings(2))


def test_a_sentence_as_pieces_are_learnt_of_it() -> None:
    assert as_learnt(" M\u0061\u0308nner\u00a0\u2009f\u00fcr\t\u3000uns ") == "M\u00e4nner f\u00fcr uns"


@pytest.mark.parametrize("space", ["\t", "\u00a0", "\u3000", "  "])
def test_white_space_of_any_kind_stands_between_words(translator: Translator, space: str) -> None:
    plain, other = translator.translate(["cat dog", f"{space}cat{space}dog"], "de")[0]
    assert other[0].source == plain[0].source
    assert "<unk>" not in other[0].source
    assert other[0].text == plain[0].text


def test_weights_that_are_no_numbers_are_not_taken_for_silence(translator: Translator) -> None:
    torch.nn.init.constant_(translator.model.softmax.weight, torch.nan)
    with pytest.raises(UserError, match="gives no word a probability"):
        translator.translate(["cat dog"], "de")
