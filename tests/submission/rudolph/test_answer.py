"""From questions to answers on a tiny random model: prompts, batches, seeds, routes, and what a bad folder says."""

import dataclasses
import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from rudolph import RudolphModel
from rudolph.answer import EMPTY_ANSWER, Done, ModelError, Question, Rudolph, description, join_texts, seed_of
from rudolph.generate import generate_image, generate_text
from rudolph.images import load_image, preprocess, to_image
from rudolph.sampling import GREEDY, TEXT_SAMPLING, Sampling
from rudolph.settings import Settings
from rudolph.tokenizer import Tokenizer

EVERY_OUTPUT = Settings(route="both")
DRAWN = Settings(route="both", text_sampling=TEXT_SAMPLING)


@pytest.fixture(scope="module")
def rudolph(model_folder) -> Rudolph:
    """In float32: in bfloat16, which `auto` is on some processors, a batch's rounding can tip a choice."""
    return Rudolph.from_pretrained(model_folder, "cpu", "float32")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = []
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (5, 7, 3), dtype=np.uint8)
        paths.append(folder / f"{number}.png")
        Image.fromarray(pixels).resize((70, 50)).save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def questions(pictures) -> list[Question]:
    return [
        Question("9", ("Какого цвета «ёжик» 🦔?",), (pictures[0],)),
        Question("0", ("Реши уравнение", "3x + 7 = 22", "варианты: a) -4; b) 5")),
        Question("ж", ("", "  "), ()),
        Question("3", (), (pictures[1],)),
        Question("4", ("Нарисуй красный шар.",)),
        Question("5", ()),
        Question("6", ("щука " * 40,)),
        Question("7", ("Прочитай текст",), (pictures[2], pictures[0])),
        Question("8", ("Что на картинке?",), answer_in_text=True),
    ]


def comparable(answers) -> list[tuple]:
    return [(a.id, a.text, None if a.image is None else a.image.tobytes()) for a in answers]


@pytest.mark.parametrize("settings", [EVERY_OUTPUT, DRAWN], ids=["greedy", "sampled"])
def test_answers_do_not_depend_on_the_batch(rudolph, questions, settings):
    whole = comparable(rudolph.answer(questions, settings))
    for size in (1, 3, 8):
        assert comparable(rudolph.answer(questions, dataclasses.replace(settings, batch_size=size))) == whole
    backwards = comparable(rudolph.answer(questions[::-1], settings))
    assert backwards == whole[::-1]
    assert len({text for _, text, _ in whole}) > 3  # and they do depend on the question


def test_ids_order_and_kinds(rudolph, questions):
    answers = rudolph.answer(questions, EVERY_OUTPUT)
    assert [a.id for a in answers] == [q.id for q in questions]
    for question, answer in zip(questions, answers, strict=True):
        assert isinstance(answer.text, str) and answer.text
        assert (answer.image is None) == bool(question.images or question.answer_in_text)
        if answer.image is not None:
            assert answer.image.size == (32, 32) and answer.image.mode == "RGB"
        assert answer.text_probability is None  # nothing had to be decided


def test_answers_are_those_of_the_model_after_the_documented_prompt(rudolph, pictures):
    """Put together by hand from the parts, for each of the three kinds of answer."""
    config, tokenizer = rudolph.model.config, rudolph.tokenizer
    texts = ("Что  это?", " a) ёж; b) уж ")
    prompt = tokenizer.encode_text("что  это? a) ёж; b) уж", 24, config.special_id("LT_UNK"))[None]
    assert prompt[0, :2].tolist() == [2, 160]
    begin = torch.tensor([2, config.special_id("RT_UNK")])
    pixels = preprocess(load_image(pictures[0]), 32)[None]
    codes = rudolph.vqgan.encode(pixels)
    settings = dataclasses.replace(EVERY_OUTPUT, image_sampling=GREEDY, listed_options=False)
    with_image, without = rudolph.answer([Question("1", texts, (pictures[0],)), Question("2", texts)], settings)

    (expected,) = generate_text(rudolph.model, prompt, codes, begin, GREEDY)
    assert with_image.text == tokenizer.decode(expected)
    (expected,) = generate_text(rudolph.model, prompt, torch.zeros(1, 16, dtype=torch.int64), begin, GREEDY)
    assert without.text == tokenizer.decode(expected) != with_image.text
    drawn = generate_image(rudolph.model, prompt, GREEDY, first_image_id="text_head")
    expected_image = to_image(rudolph.vqgan.decode(drawn)[0])
    assert without.image is not None and without.image.tobytes() == expected_image.tobytes()


def test_first_image_id_setting_reaches_the_model(rudolph):
    question = [Question("0", ("Нарисуй дом",))]
    made = {
        head: comparable(rudolph.answer(question, Settings(route="both", image_sampling=GREEDY, first_image_id=head)))
        for head in ("text_head", "image_head")
    }
    assert made["text_head"] != made["image_head"]


def test_the_edges_of_a_picture_count_where_it_is_whole(rudolph, tmp_path):
    plain = Image.new("RGB", (96, 32), "white")
    plain.save(tmp_path / "plain.png")
    plain.paste(Image.effect_noise((32, 32), 200).convert("RGB"), (0, 0))  # beyond the middle square
    plain.save(tmp_path / "edge.png")
    questions = [Question(name, ("Что это?",), (tmp_path / f"{name}.png",)) for name in ("plain", "edge")]
    for fit, equal in (("crop", True), ("whole", False)):
        plain_text, edge_text = (answer.text for answer in rudolph.answer(questions, Settings(image_fit=fit)))
        assert (plain_text == edge_text) == equal


def test_seeds(rudolph):
    assert seed_of(0, "1", "text") != seed_of(0, "1", "image") != seed_of(1, "1", "image") != seed_of(1, "2", "image")
    assert seed_of(0, "1", "text") == 3959051539186355128  # stable between versions: runs can be repeated
    ask = ("Нарисуй красный шар.",)
    free = Settings(route="both", text_sampling=Sampling(temperature=3.0))
    one, two = rudolph.answer([Question("1", ask), Question("2", ask)], free)
    (again,) = rudolph.answer([Question("2", ask)], free)
    (other,) = rudolph.answer([Question("2", ask)], dataclasses.replace(free, seed=1))
    assert comparable([two]) == comparable([again]) != comparable([other])
    assert one.text != two.text and one.image.tobytes() != two.image.tobytes()


@pytest.mark.parametrize(("bias", "text"), [(60.0, True), (-60.0, False)])
def test_auto_route_asks_the_model_only_where_it_has_to(model_folder, questions, bias, text):
    rudolph = Rudolph.from_pretrained(model_folder, "cpu")
    with torch.no_grad():
        rudolph.model.to_logits[1].bias[0] = bias
    settings = Settings(route_by_form=False, fallback=False, listed_options=False)
    answers = rudolph.answer(questions, settings)
    for question, answer in zip(questions, answers, strict=True):
        sure = bool(question.images or question.answer_in_text)
        assert (answer.text is not None) == (sure or text)
        assert (answer.image is not None) == (not sure and not text)
        assert (answer.text_probability is None) == sure and answer.fallback is None
    assert {a.text_probability > 0.5 for a in answers if a.text_probability is not None} == {text}
    if text:  # text id 0 is padding, which no text holds
        assert all(a.text == EMPTY_ANSWER for a in answers)


def test_a_form_that_shows_that_a_text_is_asked_overrules_the_model(model_folder):
    rudolph = Rudolph.from_pretrained(model_folder, "cpu")
    with torch.no_grad():
        rudolph.model.to_logits[1].bias[0] = -60.0  # an image, it says, whatever is asked
    asked = [
        Question("0", ("Найди лишнее слово.", "a) ёж; b) сыр")),
        Question("1", ("Служил на Кавказе один барин.", "Кто служил?")),
        Question("2", ("Нарисуй", "ёжика")),
    ]
    first = Settings(fallback=False)
    for settings, in_text in ((first, "01"), (dataclasses.replace(first, route_by_form=False), "")):
        for answer in rudolph.answer(asked, settings):
            assert (answer.text is not None, answer.image is None) == (answer.id in in_text,) * 2
            assert answer.text_probability is not None and answer.text_probability < 0.5  # as the model says
    with_fallback = rudolph.answer(asked, Settings())
    for answer in with_fallback[:2]:  # the model is not sure to be wrong: its image is drawn
        assert answer.text is not None and answer.fallback is None
        assert answer.image.tobytes() != rudolph.empty_image().tobytes()
    assert with_fallback[2].fallback == "text"
    # A run that goes on decides alike.
    done = Done(text_probabilities={"0": 0.1, "1": 0.1, "2": 0.1})
    parts = [part for part in rudolph.answer_each(asked, first, done=done) if part.outputs]
    assert {part.id: part.outputs for part in parts} == {"0": ("text",), "1": ("text",), "2": ("image",)}


@pytest.mark.parametrize(("threshold", "fallback"), [(0.0, "image"), (1.0, "text")])
def test_fallback_adds_the_other_entry_and_leaves_the_first(rudolph, questions, threshold, fallback):
    settings = Settings(route_threshold=threshold, route_by_form=False)
    plain = rudolph.answer(questions, dataclasses.replace(settings, fallback=False))
    safe = rudolph.answer(questions, settings)
    both = rudolph.answer(questions, EVERY_OUTPUT)
    empty = to_image(rudolph.vqgan.decode(torch.zeros(1, 16, dtype=torch.int64))[0]).tobytes()
    for question, one, two, whole in zip(questions, plain, safe, both, strict=True):
        if question.images or question.answer_in_text:
            assert comparable([one]) == comparable([two]) and two.fallback is None
            continue
        assert two.fallback == fallback and two.text == whole.text
        if fallback == "image":
            assert one.image is None and one.text == two.text and two.image.tobytes() == empty
        else:
            assert one.text is None and one.image.tobytes() == two.image.tobytes() == whole.image.tobytes()


def test_empty_answer_is_published_words(model_folder):
    rudolph = Rudolph.from_pretrained(model_folder, "cpu")
    with torch.no_grad():
        rudolph.model.to_logits[1].bias[3] = 200.0  # EOS at once
    (answer,) = rudolph.answer([Question("0", ("Кто?",), answer_in_text=True)])
    assert answer.text == "пустая строка"


def test_max_answer_tokens(rudolph, questions):
    short = rudolph.answer(questions[:2], dataclasses.replace(EVERY_OUTPUT, max_answer_tokens=1))
    for answer in short:
        assert answer.text == EMPTY_ANSWER or len(rudolph.tokenizer.encode_ids(answer.text)) <= 2


def test_unreadable_images_leave_the_text(rudolph, pictures, tmp_path, caplog):
    broken, cut, missing = tmp_path / "broken.jpg", tmp_path / "cut.png", tmp_path / "missing.jpg"
    broken.write_text("это не картинка", encoding="utf-8")
    cut.write_bytes(pictures[0].read_bytes()[:200])
    ask = ("Что на картинке?",)
    asked = [
        Question("1", ask, (broken,)), Question("2", ask, (cut,)), Question("3", ask, (missing,)),
        Question("4", ask, (broken, pictures[0])), Question("5", ask, (pictures[0],)),
        Question("6", ask, answer_in_text=True),
    ]  # fmt: skip
    *without, second, plain, text_alone = rudolph.answer(asked)
    assert all(a.text == text_alone.text and a.image is None for a in without)
    assert second.text == plain.text != text_alone.text
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 4
    for id, name in (("1", "broken.jpg"), ("2", "cut.png"), ("3", "missing.jpg"), ("4", "broken.jpg")):
        assert any(f"id '{id}'" in line and name in line for line in warned)


def test_progress_counts_every_stage_to_its_end(rudolph, questions):
    calls: list[tuple[str, int, int]] = []
    rudolph.answer(questions, Settings(batch_size=2, route_threshold=0.02), lambda *call: calls.append(call))
    stages = list(dict.fromkeys(stage for stage, _, _ in calls))
    assert stages[:2] == ["answering about images", "deciding and answering"] and "answering" in stages
    for stage in stages:
        done = [done for name, done, _ in calls if name == stage]
        (total,) = {total for name, _, total in calls if name == stage}
        assert done == sorted(done) and done[-1] == total


def test_nothing_to_answer(rudolph):
    assert rudolph.answer([]) == []


def test_join_texts():
    assert join_texts([" Ответь. ", "", "  ", "Кто\nэто?", "🦔"]) == "Ответь. Кто\nэто? 🦔"
    assert join_texts([]) == ""


@pytest.mark.parametrize("missing", ["config.json", "bpe.model", "vqgan", "model.safetensors"])
def test_an_incomplete_folder_is_named(model_folder, tmp_path, missing):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    shutil.rmtree(folder / missing) if missing == "vqgan" else (folder / missing).unlink()
    with pytest.raises(ModelError, match=f"model folder {folder} .*{missing}"):
        Rudolph.from_pretrained(folder)


@pytest.mark.parametrize("damaged", ["config.json", "bpe.model", "vqgan/model.safetensors", "model.safetensors"])
def test_a_damaged_folder_is_one_line(model_folder, tmp_path, damaged):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    (folder / damaged).write_text("повреждён", encoding="utf-8")
    with pytest.raises(ModelError, match=f"^model folder {folder} cannot be loaded: ") as error:
        Rudolph.from_pretrained(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("config.json", b"[]", "holds a list; it must be an object"),
        ("model.safetensors", None, "KeyError: 101"),
    ],
)
def test_what_readers_raise_of_a_damaged_file_is_named(model_folder, tmp_path, file, content, reason):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    if content is None:
        (folder / file).unlink()
        (folder / "pytorch_model.bin").write_bytes(b"hello world" * 100)
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(ModelError, match=f"^model folder {folder} cannot be loaded: ") as error:
        Rudolph.from_pretrained(folder)
    assert reason in str(error.value)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize(
    ("size", "value", "reason"),
    [
        ("num_layers", 1000, "num_layers is 1000, the weights have 2"),
        ("num_layers", 10**7, "num_layers is 10000000; it must be at most 1000"),
        ("num_layers", 10**400, "num_layers is 1000"),
        ("hidden_size", 2 * 10**9, r"text_embeddings.weight is \[201, 32\], config.json asks for \[201, 2000000000\]"),
        ("vocab_size", 10**12, "text_embeddings.weight is"),
        ("image_special_tokens", 10**12, "image_embeddings.weight is"),
        ("l_text_seq_length", 100, "text_embeddings.weight is|l_text_pos_embeddings.weight is"),
        ("r_text_seq_length", 10**6, "r_text_pos_embeddings.weight is"),
        ("image_tokens_per_dim", 10**4, "image_row_embeddings.weight is"),
    ],
)
def test_sizes_that_are_not_those_of_the_weights_are_named_at_once(model_folder, tmp_path, file, size, value, reason):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    if file == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
        torch.save(RudolphModel.from_pretrained(model_folder).state_dict(), folder / file)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {size: value}), encoding="utf-8")
    with pytest.raises(ModelError, match=f"^model folder {folder} cannot be loaded: .*({reason})"):
        Rudolph.from_pretrained(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("part", ["model", "vqgan"])
def test_weights_that_are_not_finite_are_named(model_folder, tmp_path, part, value):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    path = folder / "model.safetensors" if part == "model" else folder / "vqgan" / "model.safetensors"
    state = load_file(path)
    name = sorted(state)[3]
    state[name].view(-1)[-1] = value
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"loaded: the (model|VQGAN)'s weight {name} is not finite") as error:
        Rudolph.from_pretrained(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("part", ["model", "vqgan"])
def test_finite_weights_that_overflow_are_named(model_folder, tmp_path, part, dtype):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    path = folder / "model.safetensors" if part == "model" else folder / "vqgan" / "model.safetensors"
    state = {name: torch.full_like(value, 1e38) for name, value in load_file(path).items()}
    save_file(state, path, metadata={"format": "pt"})
    named = "model" if part == "model" else "VQGAN"
    with pytest.raises(ModelError, match=f"cannot be loaded: the {named}'s weights overflow in torch") as error:
        Rudolph.from_pretrained(folder, "cpu", dtype)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "bpe.model", "model.safetensors", "vqgan/model.safetensors"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(model_folder, tmp_path, name):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ModelError, match=f"^model folder {folder} .*{name.rpartition('/')[2]}"):
        Rudolph.from_pretrained(folder)


def test_weights_beyond_the_type_they_are_computed_in_are_named(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    state = load_file(folder / "model.safetensors")
    state["text_embeddings.weight"][0, 0] = 1e6
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    Rudolph.from_pretrained(folder, "cpu", "float32")
    with pytest.raises(ModelError, match=r"text_embeddings.weight is not finite in torch.float16"):
        Rudolph.from_pretrained(folder, "cpu", "float16")


def test_missing_folder_device_and_parts_that_do_not_fit(model_folder, rudolph, tmp_path):
    with pytest.raises(ModelError, match="does not exist or is no folder"):
        Rudolph.from_pretrained(tmp_path / "нет")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="device is 'cuda', but torch .* finds no CUDA device"):
            Rudolph.from_pretrained(model_folder, "cuda")
    other = dataclasses.replace(rudolph.vqgan.config, n_embed=128)
    with pytest.raises(ValueError, match="the VQGAN has 128 codes, the model's image_vocab_size is 64"):
        Rudolph(rudolph.model, type(rudolph.vqgan)(other), rudolph.tokenizer)
    tokenizer = Tokenizer.from_file(model_folder / "bpe.model")
    tokenizer.vocab_size = 150
    with pytest.raises(ValueError, match="has 150 ids, the model has rows for 160"):
        Rudolph(rudolph.model, rudolph.vqgan, tokenizer)


@pytest.mark.parametrize("dtype", ["float33", "", "fp16", "Float32", torch.float16, None, 32, ["float32"]])
def test_a_dtype_that_is_none_is_refused(model_folder, dtype):
    with pytest.raises(ValueError, match="^dtype is .*; it must be one of auto, float32, bfloat16, float16, int8$"):
        Rudolph.from_pretrained(model_folder, "cpu", dtype)


@pytest.mark.parametrize("device", ["gpu", "", "cuda:", "cuda:x", "CPU", torch.device("cpu"), 0, None])
def test_a_device_that_is_none_is_refused(model_folder, device):
    with pytest.raises(ValueError, match="^device is .*; it must be auto, cpu, cuda or cuda:N$"):
        Rudolph.from_pretrained(model_folder, device)


@pytest.mark.parametrize("wrong", [{"texts": "Кто это?"}, {"images": Path("a.jpg")}, {"images": "a.jpg"}])
def test_a_single_text_or_path_is_no_list_of_them(wrong):
    with pytest.raises(ValueError, match=r"^question '7': (texts|images) is .*; it must be a tuple of (texts|images)$"):
        Question("7", **wrong)


def test_dtype(model_folder, questions):
    rudolph = Rudolph.from_pretrained(model_folder, "cpu", "bfloat16")
    assert rudolph.model.dtype == torch.bfloat16 and rudolph.vqgan.dtype == torch.float32
    assert all(answer.text for answer in rudolph.answer(questions, EVERY_OUTPUT))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"top_k": 5}, "key 'top_k' is unknown; allowed are model, vqgan"),
        ({1: 2}, "key 1 is unknown"),
        (["route"], r"the settings is \['route'\]; it must be keys and values"),
        ({"model": 7}, "model is 7; it must be the path of a model folder"),
        ({"dtype": "int4"}, "dtype is 'int4'; it must be one of auto, float32, bfloat16, float16, int8"),
        ({"dtype": ["auto"]}, r"dtype is \['auto'\]"),
        ({"batch_size": 0}, "batch_size is 0; it must be auto, or a whole number, 1 or more"),
        ({"batch_size": True}, "batch_size is True"),
        ({"batch_size": "16"}, "batch_size is '16'"),
        ({"seed": 1.5}, "seed is 1.5; it must be a whole number"),
        ({"route": "image"}, "route is 'image'; it must be one of auto, both"),
        ({"route_threshold": 1.1}, "route_threshold is 1.1; it must be a number from 0 to 1"),
        ({"route_threshold": float("nan")}, "route_threshold is nan"),
        ({"fallback": 1}, "fallback is 1; it must be true or false"),
        ({"first_image_id": "head"}, "must be one of text_head, image_head"),
        ({"max_answer_tokens": 0}, "max_answer_tokens is 0; it must be null, or a whole number from 1 on"),
        ({"jpeg_quality": 101}, "jpeg_quality is 101; it must be a whole number from 1 to 100"),
        ({"text_sampling": 5}, "text_sampling is 5; it must be keys and values, with the keys top_k, top_p, temp"),
        ({"text_sampling": {"k": 5}}, "text_sampling: key 'k' is unknown; allowed are top_k, top_p, temperature"),
        ({"text_sampling": {"top_k": "1"}}, "text_sampling: top_k is '1'; it must be a whole number"),
        ({"image_sampling": {"top_p": 0}}, r"image_sampling: top_p is 0; it must be in \(0, 1\]"),
        ({"image_sampling": {"temperature": None}}, "image_sampling: temperature is None; it must be a number"),
    ],
)
def test_settings_name_key_value_and_what_is_allowed(values, message):
    with pytest.raises(ValueError, match=f"^here.yaml: .*{message}"):
        Settings.from_dict(values, "here.yaml")


def test_all_settings_that_are_wrong_are_named_at_once_with_the_key_that_was_meant():
    with pytest.raises(ValueError) as error:
        Settings.from_dict({"seeds": 1, "batch_size": 0, "text_sampling": {"topk": 1}, "fast": None}, "here.yaml")
    told = str(error.value)
    assert "key 'seeds' is unknown; did you mean seed?" in told and "batch_size is 0; it must be auto" in told
    assert "text_sampling: key 'topk' is unknown; did you mean top_k?" in told and "fast is None; it must be tr" in told


def test_settings_defaults_and_values():
    assert Settings.from_dict({}) == Settings()
    settings = Settings.from_dict({"text_sampling": {"top_k": 32, "top_p": 0.8}, "route": "both", "route_threshold": 1})
    assert settings.text_sampling == TEXT_SAMPLING and settings.route == "both"


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (("Нарисуй.", "Ёжик на снегу."), "Ёжик на снегу."),
        (("Нарисуй", "ёжик", " и кот "), "ёжик и кот"),
        (("Сгенерируй изображение по тексту. Ёжик на снегу. Ночь.",), "Ёжик на снегу. Ночь."),
        (("Создай картинку: красный круг",), "красный круг"),
        (("Красный круг на синем фоне.",), "Красный круг на синем фоне."),
        (("Нарисуй", "На картинке ёжик на картинке"), "ёжик на картинке"),
        (("Нарисуй: на этом рисунке: красный круг",), "красный круг"),
        (("Нарисуй", "на картинке"), "на картинке"),
        (("Нарисуй", "на картинкеёж"), "на картинкеёж"),
        ((" ",), ""),
    ],
)
def test_description_is_what_follows_the_instruction(texts, wanted):
    assert description(texts) == wanted


@torch.no_grad()
@pytest.mark.slow
def test_of_several_drawings_the_one_that_reads_best_is_kept(model_folder, questions):
    rudolph = Rudolph.from_pretrained(model_folder, "cpu", "float32")
    settings = Settings(route="both", image_candidates=4)
    asked = [question for question in questions if not question.images and not question.answer_in_text]
    drawn = [answer.image.tobytes() for answer in rudolph.answer(asked, settings)]
    config = rudolph.model.config
    prompt = rudolph.tokenizer.encode_text("Опиши изображение.", config.l_text_seq_length, config.special_id("LT_UNK"))
    others = 0
    for question, image in zip(asked, drawn, strict=True):
        right = rudolph.tokenizer.encode_text(
            description(question.texts), config.r_text_seq_length, config.special_id("RT_UNK")
        )
        found = []
        for number in range(4):
            seed = seed_of(0, question.id, f"image {number}" if number else "image")
            left = rudolph.encode_left([question])
            codes = generate_image(rudolph.model, left, settings.image_sampling, seeds=[seed],
                                   first_image_id="text_head")  # fmt: skip
            ids = torch.cat((prompt, codes[0], right))[None]
            logits = rudolph.model(ids).logits[0, config.image_end + 1 : -1, : config.text_vocab_size]
            targets = right[2:]
            loss = torch.nn.functional.cross_entropy(logits, targets, ignore_index=0, reduction="sum")
            found.append((float(loss), to_image(rudolph.vqgan.decode(codes)[0]).tobytes()))
        best = min(found, key=lambda pair: pair[0])[1]
        assert image == best
        others += best != found[0][1]
    assert others  # the first is not always the best
    for size in (1, 3):
        again = rudolph.answer(asked, dataclasses.replace(settings, batch_size=size))
        assert [answer.image.tobytes() for answer in again] == drawn


def test_where_the_time_ends_the_first_drawing_stands(rudolph, monkeypatch):
    """The time is over once the first of each was drawn, or at once."""
    asked = [Question(f"{number}", (f"Нарисуй шар {number}",)) for number in range(3)]
    settings = Settings(route="both", image_candidates=4, batch_size=8)
    single = dataclasses.replace(settings, image_candidates=1)
    expected = {answer.id: answer.image.tobytes() for answer in rudolph.answer(asked, single)}
    left = [60.0]
    read = type(rudolph)._losses_of_reading

    def reading(self, *arguments):
        left[0] = 0.0
        return read(self, *arguments)

    monkeypatch.setattr(type(rudolph), "_losses_of_reading", reading)
    parts = rudolph.answer_each(asked, settings, seconds_left=lambda: left[0])
    assert {part.id: part.image.tobytes() for part in parts if part.image is not None} == expected
    left[0] = 0.0
    parts = rudolph.answer_each(asked, settings, seconds_left=lambda: left[0])
    assert not [part for part in parts if part.image is not None]


def test_where_the_time_ends_before_the_windows_the_first_answers_stand(rudolph, monkeypatch):
    story = "Ёж нёс в корзине грибы и встретил лису. " * 60
    asked = [Question(f"{number}", ("Ответь.", story, f"Кто {number}?"), answer_in_text=True) for number in range(3)]
    asked.append(Question("короткий", ("Ответь.", "Кто?"), answer_in_text=True))
    expected = {answer.id: answer.text for answer in rudolph.answer(asked, Settings(batch_size=4))}
    left = [60.0]
    read = type(rudolph)._read_windows

    def reading(self, *arguments):
        left[0] = 0.0
        return read(self, *arguments)

    monkeypatch.setattr(type(rudolph), "_read_windows", reading)
    settings = Settings(batch_size=4, windows=3)
    parts = rudolph.answer_each(asked, settings, seconds_left=lambda: left[0])
    assert {part.id: part.text for part in parts if part.text is not None} == expected


def test_a_drawing_that_does_not_fit_is_decoded_when_memory_was_let_go_of(rudolph, monkeypatch):
    asked = [Question(f"{number}", (f"Нарисуй шар {number}",)) for number in range(2)]
    settings = Settings(route="both", batch_size=2)
    expected = [answer.image.tobytes() for answer in rudolph.answer(asked, settings)]
    decode = rudolph.vqgan.decode
    faults = [torch.OutOfMemoryError("CUDA out of memory")]
    monkeypatch.setattr(rudolph.vqgan, "decode", lambda codes: decode(codes) if not faults else _raise(faults.pop()))
    assert [answer.image.tobytes() for answer in rudolph.answer(asked, settings)] == expected and not faults
    faults = [ValueError("shapes differ")]
    with pytest.raises(ValueError, match="shapes differ"):
        rudolph.answer(asked, settings)


def _raise(error):
    raise error


def test_drawings_come_one_by_one_as_they_are_decoded(rudolph, monkeypatch):
    """So that those that are decoded are kept where the process ends within a batch."""
    asked = [Question(f"{number}", (f"Нарисуй шар {number}",)) for number in range(3)]
    decoded = []
    decode = rudolph.vqgan.decode
    monkeypatch.setattr(rudolph.vqgan, "decode", lambda codes: decoded.append(1) or decode(codes))
    parts = rudolph.answer_each(asked, Settings(route="both", batch_size=8))
    assert [len(decoded) for part in parts if part.image is not None] == [1, 2, 3]
