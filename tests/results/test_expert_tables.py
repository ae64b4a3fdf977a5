"""What is written of experts, by hand."""

from dataclasses import replace

from outrageous.results.expert_tables import (
    ExpertUse,
    experts_markdown,
    some_experts,
    to_html,
    to_metrics,
    to_rows,
    to_text,
)
from outrageous.results.specialisation import Context, Specialisation

USE = ExpertUse(
    moe="layers.1",
    num_words=1200,
    num_experts=3,
    specialisation=Specialisation(bits=1.5, shuffled_mean=0.25, shuffled_std=0.01, token_entropy=4.0),
    assignments=[700, 0, 500],
    contexts={
        0: [Context(0.75, "to the", "<b>", "sea"), Context(0.5, "a", "tree", "")],
        2: [Context(1, "", "of", "x")],
    },
)


def test_text_lines_up_the_words() -> None:
    assert to_text([USE], "a model").splitlines() == [
        "a model",
        "",
        "layers.1: 3 experts, 2 of them used, for 1,200 words. An expert tells 1.500 bits of its word, of 4.000; with "
        "the same experts dealt out at random 0.250 ± 0.010: 1.250 bits above chance.",
        "",
        "layers.1, expert 0: 700 words",
        "  0.750  to the [<b>] sea",
        "  0.500       a [tree] ",
        "",
        "layers.1, expert 2: 500 words",
        "  1.000   [of] x",
    ]


def test_the_page_shows_text_as_it_is() -> None:
    page = to_html([USE], "R&D")
    assert "<title>R&amp;D</title>" in page
    assert "<td>0.750</td><td>to the</td><td>&lt;b&gt;</td><td>sea</td>" in page
    assert page.count("<table>") == 2
    assert "{" not in page.split("</style>")[1]


def test_rows_and_metrics() -> None:
    assert to_rows(USE) == [
        (0, 700, 0.75, "to the", "<b>", "sea"),
        (0, 700, 0.5, "a", "tree", ""),
        (2, 500, 1, "", "of", "x"),
    ]
    assert to_metrics([USE]) == {
        "test_expert_bits_above_chance_layers.1": 1.25,
        "test_expert_bits_by_chance_layers.1": 0.25,
    }


def test_some_experts_are_spread_evenly_and_keep_their_statistics() -> None:
    many = replace(USE, moe="encoder", assignments=[9] * 10, contexts=dict.fromkeys(range(10), USE.contexts[0]))
    few = some_experts(to_text([many, USE], "a model"))
    heads = [line.split(":")[0] for line in few.splitlines() if ", expert " in line]
    encoder = [f"encoder, expert {expert}" for expert in (0, 2, 5, 7)]  # i · 10 // 4
    assert heads == [*encoder, "layers.1, expert 0", "layers.1, expert 2"]
    assert few.startswith(f"a model\n\n{many.statistic()}\n\nencoder, expert 0: 9 words\n  0.750  to the [<b>] sea\n")
    assert USE.statistic() in few
    assert some_experts(few) == few


def test_markdown_shows_text_as_it_is() -> None:
    text = experts_markdown({"mt/moe_32 seed 0": to_text([USE], "*a*")}, "smoke", "a command")
    assert "## mt/moe_32 seed 0\n\n    *a*\n\n    layers.1: 3 experts" in text
    assert "\n      0.500       a [tree]\n" in text
