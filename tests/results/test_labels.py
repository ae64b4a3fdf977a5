import itertools
import math

from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from outrageous.results.labels import Label, place, spread

positions = st.lists(st.floats(-1000, 1000), max_size=12)


def test_spread_by_hand() -> None:
    # 10 and 10 move apart around their mean; 50 stays.
    assert spread([50, 10, 10], gap=4) == [50, 8, 12]


@given(positions, st.floats(0.1, 50))
def test_spread_keeps_order_gap_and_mean(values: list[float], gap: float) -> None:
    result = spread(values, gap)
    order = sorted(range(len(values)), key=lambda i: values[i])
    assert all(result[b] - result[a] >= gap - 1e-6 for a, b in itertools.pairwise(order))
    assert math.isclose(sum(result), sum(values), abs_tol=1e-6 * (1 + len(values)) * 1000)


@given(positions)
def test_spread_leaves_what_is_far_enough_apart(values: list[float]) -> None:
    apart = [100.0 * i + 0.03 * value for i, value in enumerate(values)]
    assert all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(spread(apart, gap=30.0), apart, strict=True))


def test_labels_of_neighbours_do_not_overlap() -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 10)
    labels = [Label(1.0, 5.0 + 0.01 * i, f"model {i}", "#0072B2") for i in range(6)]
    place(axes, labels, size=8)
    renderer = FigureCanvasAgg(figure).get_renderer()
    notes = [child for child in axes.get_children() if isinstance(child, Annotation) and child.get_text()]
    boxes = [note.get_window_extent(renderer) for note in notes]
    assert len(boxes) == 6
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
