"""The pictured worlds: scenes, signs, grammar. What needs stamps or fonts is skipped where they are not installed."""

import random
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from training.worlds import TASKS, make_example, scenes, seeded, signs
from training.worlds.grammar import Noun, agree, with_preposition_s
from training.worlds.stamps import COLOURS, STAMPS, load_stamps, nearest_colour

needs_stamps = pytest.mark.skipif(not STAMPS.is_dir(), reason="Debian's tuxpaint-stamps-default is not installed")
needs_fonts = pytest.mark.skipif(
    not all((signs.FONTS / file).exists() for file in signs.FONT_FILES), reason="Debian's fonts are not installed"
)


@pytest.mark.parametrize(
    ("noun", "count", "expected"),
    [
        ("красное яблоко", 3, "три красных яблока"),
        ("красное яблоко", 5, "пять красных яблок"),
        ("пожарная машина", 2, "две пожарные машины"),
        ("лев", 4, "четыре льва"),
        ("брюки", 2, "двое брюк"),
        ("ёжик", 1, "один ёжик"),
    ],
)
def test_counted(noun: str, count: int, expected: str) -> None:
    assert Noun(noun).counted(count) == expected


def test_cases_and_agreement() -> None:
    assert Noun("пожарная машина").form("ablt") == "пожарной машиной"
    assert Noun("лиса").form("accs") == "лису"
    assert Noun("звезда").with_adjective("зелёный").text == "зелёная звезда"
    assert agree("синий", "masc", "loct") == "синем"
    assert with_preposition_s("слоном") == "со слоном"
    assert with_preposition_s("лисой") == "с лисой"
    with pytest.raises(ValueError, match="'красивая дом'"):
        Noun("красивая дом")


@needs_stamps
def test_stamps_are_many_and_named() -> None:
    stamps = load_stamps()
    assert len(stamps) > 300
    for name, pictures in stamps.items():
        for stamp in pictures:
            assert stamp.name.text == name == name.lower()
            assert stamp.image.mode == "RGBA"
            assert stamp.colour is None or stamp.colour in COLOURS
    # One of the red apples lies so much in the shade that no colour dominates.
    assert {stamp.colour for stamp in stamps["красное яблоко"]} == {"красный", None}


@needs_stamps
@needs_fonts
@pytest.mark.parametrize("task", TASKS)
def test_examples_are_reproducible_and_whole(task: str) -> None:
    for seed in range(20):
        example, again = (make_example(task, seed, "heldout") for _ in range(2))
        assert example.task == task
        assert [str(e) for e in example.inputs if isinstance(e, str)] == [e for e in again.inputs if isinstance(e, str)]
        assert [e.tobytes() for e in example.inputs if isinstance(e, Image.Image)] == [
            e.tobytes() for e in again.inputs if isinstance(e, Image.Image)
        ]
        assert example.answers == again.answers
        assert (example.image is not None) == (task == "ImageGeneration") == (not example.answers)
        assert all(answer.strip() for answer in example.answers)
        assert sum(isinstance(e, Image.Image) for e in example.inputs) == (
            0 if task in ("TextQA", "MathQA", "ImageGeneration") else 1
        )


def test_unknown_task_and_split_are_refused() -> None:
    with pytest.raises(ValueError, match="'Poetry'"):
        make_example("Poetry", 0)
    with pytest.raises(ValueError, match="'test'"):
        make_example("MathQA", 0, "test")


@needs_stamps
def test_scenes_show_what_their_captions_say() -> None:
    seen = Counter()
    for seed in range(300):
        scene = scenes.draw_scene(seeded("train", "test", seed), 64)
        pixels = np.asarray(scene.image)
        assert pixels.shape == (64, 64, 3)
        caption = scenes.captions(scene)[0]
        assert caption.endswith(scene.where)
        if scene.background in COLOURS:
            border = nearest_colour(np.concatenate((pixels[0], pixels[-1])))
            assert list(COLOURS)[Counter(border.tolist()).most_common(1)[0][0]] == scene.background
        if scene.kind == "shape":
            colour = scene.things[0].colour
            assert colour is not None and colour != scene.background
            assert (nearest_colour(pixels) == list(COLOURS).index(colour)).mean() > 0.08
        seen[scene.kind] += 1
    assert set(seen) == {kind for kind, _ in scenes.KINDS}


@needs_stamps
def test_questions_have_true_answers_and_false_distractors() -> None:
    kinds = Counter()
    for seed in range(400):
        rng = seeded("train", "questions", seed)
        scene = scenes.draw_scene(rng, 32)
        example = scenes.question_example(rng, scene, "train")
        kinds[example.kind.removesuffix(" options")] += 1
        if example.kind.startswith("count"):
            assert example.answers[0] == str(scene.count)
        if example.kind.endswith("options"):
            (options,) = (e for e in example.inputs if isinstance(e, str) and "a) " in e)
            letter = example.answers[-1].rstrip(")")
            assert f"{letter}) {example.answers[0]}" in options
    assert set(kinds) == {"what", "colour", "background", "position", "side", "count", "yes_no"}


@needs_fonts
def test_signs_can_be_read() -> None:
    """Two signs with different words differ; the text is what was asked for; letters stand out from the ground."""
    image, text = signs.draw_sign(random.Random(1), 64, "аптека")
    other, _ = signs.draw_sign(random.Random(1), 64, "музей")
    assert text.lower() == "аптека"
    assert image.size == (64, 64)
    assert image.tobytes() != other.tobytes()
    assert np.asarray(image.convert("L")).std() > 15
