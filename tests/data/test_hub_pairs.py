"""The data set of a hub as a local folder of its layout, and sacrebleu's sets from its own folder: no network."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Features, Translation
from sacrebleu.dataset import DATASETS

from outrageous.config import HubPairsConfig, ParallelCorpusConfig
from outrageous.data.hub_pairs import HubPairs
from outrageous.data.parallel_corpus import prepare_parallel
from outrageous.errors import UserError

PAIRS = [{"de": f"Haus {i} steht  da", "en": f"house {i} stands here"} for i in range(40)]
NEWS = {
    "wmt12": (["the first", "the second"], ["der erste", "der zweite"]),
    "wmt13": (["house 7 stands here"], ["Haus 7 steht da"]),  # also a training pair, and kept
    "wmt14/full": (["one", "two", "three"], ["eins", "zwei", "drei"]),
}


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A folder as a checkout of wmt/wmt14 is."""
    folder = tmp_path / "wmt14"
    (folder / "de-en").mkdir(parents=True)
    features = Features({"translation": Translation(languages=["de", "en"])})
    for shard in (0, 1):
        rows = Dataset.from_dict({"translation": PAIRS[shard * 20 : shard * 20 + 20]}, features=features)
        rows.to_parquet(folder / "de-en" / f"train-0000{shard}-of-00002.parquet")
    return folder


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither library writes to the home directory, and sacrebleu finds NEWS as if it had downloaded them."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    for name, (sources, targets) in NEWS.items():
        folder = tmp_path / "sacrebleu" / name
        folder.mkdir(parents=True)
        monkeypatch.setattr(DATASETS[name], "_outdir", str(folder))
        monkeypatch.setattr(DATASETS[name], "_rawdir", str(folder / "raw"))
        for field in DATASETS[name].fieldnames("en-de"):
            lines = {"src": sources, "ref": targets}.get(field, [])
            (folder / f"{name.replace('/', '_')}.en-de.{field}").write_text("".join(f"{line}\n" for line in lines))


def make_config(hub: Path, **changes: Any) -> ParallelCorpusConfig:
    settings: dict[str, Any] = {"subset": "de-en", "revision": "unused", "num_pairs": 40}
    settings |= {"dev_sets": {"wmt12": 2, "wmt13": 1}, "test_sets": {"wmt14/full": 3}}
    of_hub = HubPairsConfig(**(settings | {name: changes.pop(name) for name in settings if name in changes}))
    whole: dict[str, Any] = {"name": "tiny", "path": str(hub), "directions": ["en-de"], "vocabulary_size": 60}
    return ParallelCorpusConfig(**(whole | {"hub": of_hub} | changes))


def pairs(config: ParallelCorpusConfig) -> HubPairs:
    assert config.hub is not None
    return HubPairs(config, config.hub)


def test_training_is_the_data_set_and_dev_and_test_are_the_official_sets(hub: Path) -> None:
    rows = list(pairs(make_config(hub)).rows())
    assert [row for part, row in rows if part == "train"] == [
        {"de": f"Haus {i} steht da", "en": f"house {i} stands here"} for i in range(40)
    ]
    assert [row["de"] for part, row in rows if part == "dev"] == ["der erste", "der zweite", "Haus 7 steht da"]
    assert [row["en"] for part, row in rows if part == "test"] == ["one", "two", "three"]


def test_rows_can_be_read_from_any_on(hub: Path) -> None:
    source = pairs(make_config(hub))
    whole = list(source.rows())
    assert source.num_rows == len(whole) == 46
    for start in (1, 25, 39, 40, 41, 45, 46):
        assert list(source.rows(start)) == whole[start:]


def test_official_sets_are_kept_whole(hub: Path, tmp_path: Path) -> None:
    corpus = prepare_parallel(make_config(hub), tmp_path / "prepared")
    assert corpus.text("dev", "en-de") == (NEWS["wmt12"][0] + NEWS["wmt13"][0], NEWS["wmt12"][1] + NEWS["wmt13"][1])
    assert [len(part) for part in (corpus.train, corpus.dev, corpus.test)] == [40, 3, 3]
    assert corpus.meta["held_out_sets"]["test"] == {"wmt14/full": 3}
    elsewhere = shutil.copytree(hub, tmp_path / "elsewhere")
    assert prepare_parallel(make_config(elsewhere), tmp_path / "prepared").fingerprint == corpus.fingerprint


def test_the_configs_of_wmt14_name_what_the_libraries_know(load_parallel: Callable[..., ParallelCorpusConfig]) -> None:
    for name, direction, subset in (("wmt14_en_de", "en-de", "de-en"), ("wmt14_en_fr", "en-fr", "fr-en")):
        config = load_parallel(name)
        assert config.hub is not None
        assert (config.path, config.directions, config.hub.subset) == ("wmt/wmt14", [direction], subset)
        assert config.vocabulary_size == 32_000
        sets = config.hub.dev_sets | config.hub.test_sets
        assert sets == {"wmt12": 3003, "wmt13": 3000, "wmt14/full": 3003}
        assert all(direction in DATASETS[each].langpairs for each in sets)
        assert pairs(config).identity() == {"path": "wmt/wmt14"}  # and the settings, which have the commit


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_pairs": 41}, "has 40 training pairs, not data.hub.num_pairs=41: it is another data set, or not whole"),
        ({"dev_sets": {"wmt99": 5}}, "sacrebleu has no test set 'wmt99'"),
        ({"dev_sets": {"wmt12": 3003}}, "wmt12 has 2 sources and 2 targets, where 3003 are expected; delete"),
        ({"directions": ["en-xx"]}, "sacrebleu's wmt12 is not for en-xx"),
        ({"directions": ["en-xx"], "dev_sets": {}, "test_sets": {}}, "en-xx wants 'xx', but .* has de, en"),
        ({"path": "no/such-data-set"}, r"cannot load data.path=no/such-data-set \(data.hub.subset=de-en"),
        ({"path": ["a"]}, "must be the name of a data set or a local folder"),
    ],
)
def test_what_does_not_fit_is_one_clear_message(changes: dict[str, Any], message: str, hub: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        list(pairs(make_config(hub, **changes)).rows())
    assert "\n" not in str(caught.value)


def test_a_folder_of_another_layout_is_refused(hub: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the folder data\.path=.* has no fr-en/train-\*\.parquet"):
        pairs(make_config(hub, subset="fr-en")).identity()
    Dataset.from_dict({"text": ["a"]}).to_parquet(hub / "de-en" / "train-00000-of-00002.parquet")
    (hub / "de-en" / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(UserError, match="has no column `translation` but text"):
        list(pairs(make_config(hub)).rows())
    (hub / "de-en" / "train-00000-of-00002.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match="cannot load"):
        list(pairs(make_config(hub)).rows())


def test_a_test_set_that_cannot_be_downloaded_is_one_clear_message(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(tmp_path / "sacrebleu" / "wmt13")
    monkeypatch.setattr(DATASETS["wmt13"], "data", [(tmp_path / "missing.tgz").as_uri()])
    with pytest.raises(UserError, match="cannot get sacrebleu's set wmt13"):
        list(pairs(make_config(hub)).rows())
    (tmp_path / "damaged.tgz").write_bytes(b"damaged")
    monkeypatch.setattr(DATASETS["wmt13"], "data", [(tmp_path / "damaged.tgz").as_uri()])
    with pytest.raises(UserError, match="cannot get sacrebleu's set wmt13"):
        list(pairs(make_config(hub)).rows())
