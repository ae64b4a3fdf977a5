"""What is written of experts, by hand."""

from outrageous.results.expert_tables import ExpertUse, to_html, to_metrics, to_rows, to_text
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
