"""Instructions and answer options in many wordings.

An instruction is drawn from patterns: every pattern is a row of slots, every slot a choice of phrases, so that a few
lines give hundreds of texts. The patterns of split 'heldout' share no verb and no whole text with those of 'train'
(`verbs` and `wordings` list them): they measure whether the route is understood rather than remembered.
"""

import itertools
import random
import re
from collections.abc import Iterator

TASKS = ("TextQA", "MathQA", "ImageGeneration", "ImageCaptioning", "VisualQA", "TRitW")
SPLITS = ("train", "heldout")
LETTERS = "abcd"

SEPARATE, JOINED = 0.4, 0.35  # the instruction is missing in the rest
PUBLISHED = 0.12  # share of the challenge's own wording among the training instructions
INTRODUCED = 0.3  # options that 'варианты:' introduces
PLEASE = 0.15  # imperatives with 'пожалуйста'
UNCAPITALISED = 0.1

# The wordings shown by the organizers.
PUBLISHED_WORDING = {
    "TextQA": "Определи правильный ответ по тексту.",
    "MathQA": "Решите уравнение.",
    "ImageGeneration": "Сгенерируй изображение по тексту.",
    "ImageCaptioning": "Что изображено на картинке?",
    "VisualQA": "Ответь на вопрос по картинке.",
    "TRitW": "Распознай текст на изображении.",
}

Pattern = tuple[str, tuple[tuple[str, ...], ...]]  # form ('imperative', 'noun' or 'question') and slots


def _imperative(*slots: str) -> Pattern:
    """Verbs stand in the informal form, in the first slot or behind `*`: the polite one is made of it."""
    verbs, *others = map(_choices, slots)
    return "imperative", (tuple(f"*{verb}" for verb in verbs), *others)


def _noun(*slots: str) -> Pattern:
    return "noun", tuple(map(_choices, slots))


def _question(*slots: str) -> Pattern:
    return "question", tuple(map(_choices, slots))


def _choices(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("|"))


def _address(text: str, polite: bool) -> str:
    return re.sub(r"\*(\w+?)(сь)?\b", r"\1те\2" if polite else r"\1\2", text)  # «разберитесь»


_PICTURE_ON = "на картинке|на изображении|на фото|на фотографии|на рисунке|на снимке"
_PICTURE_BY = "по картинке|по изображению|по фото|по фотографии|по рисунку|по снимку"
_PICTURE_GEN = "картинки|изображения|фото|фотографии|рисунка|снимка"
_PICTURE_ACC = "картинку|изображение|фото|фотографию|рисунок|снимок"
_ANSWER = "правильный ответ|верный ответ|ответ на вопрос"
_WANTED = "изображение|картинку|рисунок|картину|фото|иллюстрацию"
_BY_TEXT = "по тексту|по описанию|по подписи|по этому описанию|по следующему тексту|по заданному тексту|по фразе"
_BY_PASSAGE = (
    "по тексту|по отрывку|по этому тексту|по данному тексту|на основе текста|исходя из текста|по содержанию текста"
)

_PATTERNS: dict[str, dict[str, tuple[Pattern, ...]]] = {
    "TextQA": {
        "train": (
            _imperative("определи|выбери|дай|напиши|назови", _ANSWER, _BY_PASSAGE),
            _imperative("ответь", "на вопрос|на заданный вопрос|кратко на вопрос|на вопрос словами", _BY_PASSAGE + "|"),
            _imperative("прочитай|прочти", "текст|отрывок|абзац|этот текст|внимательно текст", "и *ответь на вопрос"),
            _imperative("найди", "ответ|правильный ответ|ответ на вопрос|верный ответ",
                        "в тексте|в отрывке|в этом тексте|в абзаце"),
            _noun("ответ|правильный ответ|верный ответ|краткий ответ", "на вопрос", _BY_PASSAGE),
            _noun("вопрос|задание|вопрос с ответом", "по тексту|к тексту|по отрывку|на понимание текста"),
            _question("какой ответ|какой вариант", "правильный|верный|подходит", _BY_PASSAGE),
            _question("каков", "ответ|правильный ответ|верный ответ", "на вопрос", _BY_PASSAGE),
        ),
        "heldout": (
            _imperative("изучи|просмотри", "рассказ|фрагмент|заметку", "и *сообщи, что верно|и *укажи нужное место|"
                        "и *отыщи нужное"),
            _imperative("отыщи|укажи", "нужные слова|нужный факт|нужное место|сведения",
                        "во фрагменте|в заметке|в рассказе|в сообщении"),
            _imperative("сообщи,", "что следует из|что известно из|что ясно из",
                        "фрагмента|заметки|рассказа|сообщения"),
            _question("что", "говорится об этом|сказано об этом|известно об этом", "в рассказе|в заметке|во фрагменте"),
            _noun("чтение|проверка", "фрагмента|рассказа|заметки", "с проверкой понимания|и разбор"),
        ),
    },
    "MathQA": {
        "train": (
            _imperative("реши",
                        "уравнение|задачу|пример|математическую задачу|задание|задание по математике|это уравнение",
                        "|и *выбери ответ|и *выбери верный вариант|и *назови ответ"),
            _imperative("вычисли|посчитай|определи", "значение|ответ|правильный ответ|верное значение|результат"),
            _imperative("найди", "решение|неизвестное|правильное значение|верный ответ", "|задачи|задания"),
            _imperative("выбери", "правильный|верный|подходящий", "ответ|результат|вариант|вариант решения",
                        "|задачи|математической задачи"),
            _noun("решение", "уравнения|задачи|примера|математической задачи"),
            _noun("задача|уравнение|пример|задание", "по алгебре|по математике|на вычисление|для решения"),
            _question("какой ответ|какое решение|какое значение", "у задачи|получится|будет верным|здесь"),
        ),
        "heldout": (
            _imperative("разберись", "с выражением|с равенством|с числами", "|и *сообщи итог|и *отметь верное число"),
            _imperative("рассчитай|подсчитай|установи", "неизвестную величину|искомое число|итог|искомую величину"),
            _imperative("отметь|укажи", "верное число|искомое число|истинное число",
                        "|из предложенных|среди вариантов"),
            _question("сколько", "получается|выходит", "|в итоге|в результате"),
            _noun("упражнение", "по арифметике|на счёт|с числами"),
        ),
    },
    "ImageGeneration": {
        "train": (
            _imperative("сгенерируй|нарисуй|создай|сделай|построй|покажи|подготовь|синтезируй", _WANTED, _BY_TEXT),
            _imperative("сгенерируй|нарисуй|создай|сделай|покажи", _WANTED,
                        "к тексту|к этой подписи|для текста|к описанию|для описания|для этой подписи"),
            _imperative("изобрази|нарисуй|покажи",
                        "то, что описано|описанное|сцену|сцену по тексту|это|то, о чём текст|сцену из текста"),
            _imperative("преврати", "текст|описание|подпись|фразу", "в картинку|в изображение|в рисунок"),
            _noun("генерация|создание|рисование", "изображения|картинки|рисунка|иллюстрации", _BY_TEXT),
            _noun("изображение|картинка|рисунок|иллюстрация|фото",
                  _BY_TEXT + "|к тексту|к описанию|со следующим содержанием"),
            _noun("нужно|требуется|надо", "сгенерировать|нарисовать|создать", _WANTED, _BY_TEXT),
            _question("как выглядит", "эта сцена|то, что описано|описанная сцена|сцена из текста"),
            _question("можешь|можете|сможешь", "нарисовать|сгенерировать|создать", _WANTED, _BY_TEXT),
        ),
        "heldout": (
            _imperative("визуализируй|проиллюстрируй|воспроизведи", "текст|описание|фразу|подпись",
                        "|в виде картинки|как рисунок|наглядно"),
            _imperative("сочини|набросай|выдай", "картинку|рисунок|изображение",
                        "под описание|из описания|под эту фразу|на такую тему"),
            _noun("хочу увидеть|хочется увидеть|желаю получить", "картинку|изображение|рисунок",
                  "с таким сюжетом|на такую тему|под описание"),
            _noun("визуализация|набросок", "текста|описания|фразы", "|в виде картинки"),
            _question("каким будет", "рисунок|изображение", "с таким сюжетом|на такую тему"),
        ),
    },
    "ImageCaptioning": {
        "train": (
            _question("что", "изображено|показано|видно|нарисовано|находится|представлено", _PICTURE_ON),
            _question("что", "происходит|есть|мы видим|ты видишь|можно увидеть", _PICTURE_ON),
            _question("что", "это|это такое|здесь изображено|здесь видно", _PICTURE_ON + "|"),
            _imperative("опиши", _PICTURE_ACC + "|содержание картинки|содержание изображения|то, что видно на картинке",
                        "|словами|одним предложением|кратко|на русском языке"),
            _imperative("расскажи,|скажи,|напиши,", "что изображено|что видно|что показано|что нарисовано",
                        _PICTURE_ON),
            _imperative("дай|придумай|сгенерируй|создай|составь",
                        "подпись|описание|текстовое описание|краткое описание",
                        "к картинке|к фото|для изображения|для картинки|для фотографии|к изображению"),
            _imperative("подпиши", _PICTURE_ACC),
            _noun("описание|подпись|содержание|краткое описание", _PICTURE_GEN),
            _question("какое описание|какая подпись", "подходит", "картинке|изображению|фото|рисунку"),
        ),
        "heldout": (
            _imperative("охарактеризуй|передай", "кадр|картину|увиденное", "|в двух словах|одной фразой"),
            _imperative("поясни,|сообщи,", "что запечатлено в кадре|что попало в кадр|что открывается взгляду"),
            _question("что", "запечатлено в кадре|попало в кадр|оказалось в кадре|открывается взгляду"),
            _question("о чём|про что", "этот кадр|эта картина"),
            _noun("рассказ о том, что", "запечатлено в кадре|попало в кадр|открывается взгляду"),
        ),
    },
    "VisualQA": {
        "train": (
            _imperative("ответь", "на вопрос|на вопрос кратко|на заданный вопрос|одним словом на вопрос", _PICTURE_BY),
            _imperative("посмотри", "на картинку|на изображение|на фото|на фотографию|на рисунок",
                        "и *ответь на вопрос"),
            _imperative("определи|выбери|дай|напиши|назови", _ANSWER, _PICTURE_BY),
            _imperative("найди", "ответ|правильный ответ|ответ на вопрос", _PICTURE_ON),
            _noun("вопрос|задание|вопрос с ответом", _PICTURE_BY + "|к картинке|к изображению|к фотографии"),
            _noun("ответ|правильный ответ", "на вопрос", _PICTURE_BY + "|о картинке|об изображении"),
            _question("какой ответ", "правильный|верный|подходит", _PICTURE_BY),
        ),
        "heldout": (
            _imperative("взгляни|глянь", "на кадр|на картину|на эту сцену", "и *подскажи|и *сообщи, что верно"),
            _imperative("рассмотри|изучи", "кадр|картину|эту сцену", "и *подскажи|и *сообщи, что верно"),
            _imperative("подскажи,", "исходя из кадра|глядя на кадр|судя по кадру"),
            _question("что верно,", "судя по кадру|если взглянуть на кадр|исходя из кадра"),
            _noun("проверка внимания|загадка", "по кадру|по картине|по этой сцене"),
        ),
    },
    "TRitW": {
        "train": (
            _imperative("распознай|прочитай|прочти|выпиши|напиши|считай", "текст|надпись|слова|весь текст",
                        _PICTURE_ON),
            _imperative("распознай|прочитай|найди и *прочитай", "текст|надпись|слова",
                        "с картинки|с изображения|с фото|с вывески|на вывеске|на табличке"),
            _question("что", "написано|напечатано", _PICTURE_ON + "|на вывеске|на табличке|здесь"),
            _question("какой текст|какая надпись", _PICTURE_ON + "|на вывеске|на табличке|здесь"),
            _question("какие", "слова|буквы", "написаны|видны|есть", _PICTURE_ON),
            _noun("распознавание|чтение", "текста|надписи|слов", _PICTURE_ON),
            _noun("текст|надпись|слова", _PICTURE_ON + "|на вывеске|на табличке"),
        ),
        "heldout": (
            _imperative("расшифруй|перепиши", "буквы|строку|символы", "в кадре|из кадра"),
            _imperative("извлеки", "буквы|строку|символы|начертанное", "из кадра|со щита"),
            _imperative("озвучь|процитируй", "начертанное|строку|символы", "в кадре|из кадра|на щите"),
            _question("что гласит", "табло|щит|плакат|строка в кадре"),
            _noun("расшифровка", "символов|букв|строки", "в кадре|из кадра|на щите"),
        ),
    },
}


def wordings(task: str, split: str) -> Iterator[str]:
    """Every instruction of a task and split, lower-case and without its last punctuation or 'пожалуйста'."""
    _check(task, split)
    if split == "train":
        yield PUBLISHED_WORDING[task].lower().rstrip(".?")
    for form, slots in _PATTERNS[task][split]:
        for parts in itertools.product(*slots):
            text = " ".join(filter(None, parts))
            yield _address(text, polite=False)
            if form == "imperative":
                yield _address(text, polite=True)


def verbs(task: str, split: str) -> frozenset[str]:
    """The imperative verbs of a task and split, in the informal form."""
    _check(task, split)
    phrases = (phrase for _, slots in _PATTERNS[task][split] for slot in slots for phrase in slot)
    return frozenset(verb for phrase in phrases for verb in re.findall(r"\*(\w+)", phrase))


def instruction(rng: random.Random, task: str, split: str) -> str:
    """One instruction, with or without its last punctuation."""
    _check(task, split)
    if split == "train" and rng.random() < PUBLISHED:
        return PUBLISHED_WORDING[task]
    form, slots = rng.choice(_PATTERNS[task][split])
    text = " ".join(filter(None, (rng.choice(slot) for slot in slots)))
    if form == "imperative":
        text = _address(text, polite=rng.random() < 0.5)
        if rng.random() < PLEASE:
            text = f"пожалуйста, {text}" if rng.random() < 0.5 else f"{text}, пожалуйста"
    if rng.random() >= UNCAPITALISED:
        text = text[0].upper() + text[1:]
    return text + rng.choice(("?", "?", "?", "") if form == "question" else (".", ".", ".", ":", ""))


def instruct(rng: random.Random, task: str, *texts: str, split: str) -> list[str]:
    """The text entries of an example: `texts` with the instruction in front, joined with the first, or missing.

    Without `texts` (ImageCaptioning, TRitW) the instruction is the only entry. ImageGeneration always has one, and
    where it is joined it is one sentence that ends in `. `: scoring takes the sentences after the first as the caption.
    Raises ValueError for an unknown task or split, or an empty text.
    """
    if not all(text.strip() for text in texts):
        raise ValueError(f"{task}: empty text among {texts!r}")
    said = instruction(rng, task, split)
    if not texts:
        return [said]
    draw = rng.random()
    if task == "ImageGeneration":
        draw *= SEPARATE + JOINED
    if draw < SEPARATE:
        return [said, *texts]
    if draw < SEPARATE + JOINED:
        if task == "ImageGeneration":
            said = said.rstrip(".:?") + "."
        elif said[-1] not in ".:?":
            said += rng.choice(".:")
        return [f"{said} {texts[0]}", *texts[1:]]
    return list(texts)


def options(rng: random.Random, answer: str, distractors: list[str]) -> tuple[str, list[str]]:
    """The options text `a) …; b) …` and the accepted answers [text, letter].

    Takes one to three distractors. Raises ValueError where two options would read the same.
    """
    shown = [answer, *distractors]
    if not 2 <= len(shown) <= len(LETTERS):
        raise ValueError(f"{len(shown)} options, allowed are 2 to {len(LETTERS)}: {shown}")
    if len({option_key(option) for option in shown}) < len(shown):
        raise ValueError(f"options read the same: {shown}")
    rng.shuffle(shown)
    text = "; ".join(f"{letter}) {option}" for letter, option in zip(LETTERS, shown, strict=False))
    if rng.random() < INTRODUCED:
        text = rng.choice(("варианты: ", "Варианты: ")) + text
    return text, [answer, LETTERS[shown.index(answer)]]


def option_key(text: str) -> str:
    """What exact-match scoring leaves of an option: `1/2`, `1,2` and `12` are one to it."""
    return re.sub(r"[^\w\s-]", "", text.lower()).strip()


def _check(task: str, split: str) -> None:
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}, allowed are {', '.join(TASKS)}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}, allowed are {', '.join(SPLITS)}")
