"""COCO captions → ImageCaptioning and ImageGeneration; Visual Genome's questions → VisualQA."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from training.convert.reading import clean, read_coco, read_records
from training.convert.source import ConvertSettings, Part, Translations, find_files, make_parts
from training.convert.writer import Picture, Row
from training.data_format import DataError

CAPTION_FILES = ("captions_*.json", "captions_*.json.gz")
QUESTION_FILES = ("question_answers*.json", "question_answers*.json.gz")
IMAGE_DATA_FILES = ("image_data.json", "image_data.json.gz")


def coco(settings: ConvertSettings) -> list[Part]:
    """`captions_<set>.json`: one example of both tasks an image, with all its captions accepted.

    Images lie in the image folder, or in `<set>/` of it. The captions may be those of a translated file of the same
    layout; else they stay as they are, or become what --translations has.
    """
    translations = Translations(settings.translations)

    def rows(path: Path) -> Iterator[Row]:
        images, annotations = read_coco(path, settings.report)
        captions: dict[int | str, list[str]] = {}
        for place, annotation in annotations:
            if caption := translations.of(annotation.get("caption")):
                captions.setdefault(annotation["image_id"], []).append(caption)
            else:
                settings.report.bad(place, annotation, f"a caption: {translations.allowed}")
        root = settings.images or _root_of(path, "annotations")
        set_name = re.sub(r"^captions_|\.json.*$", "", path.name)
        for key, image in images.items():
            place, name = f"{settings.report.name(path)}: image {key}", image["file_name"]
            if key not in captions:
                settings.report.leave_out("an image without captions")
                continue
            picture = Picture(root, _existing(root, (name, f"{set_name}/{name}")))
            group = f"image {key}"
            yield Row("ImageCaptioning", place, group, (), tuple(dict.fromkeys(captions[key])), picture=picture)
            wanted = settings.rng(place).choice(captions[key])
            yield Row("ImageGeneration", place, group, (wanted,), picture=picture)

    return make_parts(find_files(settings.inputs, CAPTION_FILES), rows)


def visual_genome(settings: ConvertSettings) -> list[Part]:
    """`question_answers.json` and, beside it, `image_data.json`, whose URLs tell the folder of each image.

    Of each image, `per_image` questions are drawn. Both files are lists that are read piece by piece.
    """
    translations = Translations(settings.translations)

    def rows(path: Path) -> Iterator[Row]:
        root = settings.images or path.parent
        names = _image_names(path, settings)
        for place, record in read_records(path, settings.report):
            key = record.get("id", record.get("image_id")) if isinstance(record, dict) else None
            listed = record.get("qas") if isinstance(record, dict) else None
            if not isinstance(key, int) or key not in names or not isinstance(listed, list):
                settings.report.bad(place, record, "an object with qas, and an id that image_data.json has")
                continue
            asked = []
            for number, qa in enumerate(listed):
                question = translations.of(qa.get("question") if isinstance(qa, dict) else None)
                answer = translations.of(qa.get("answer") if isinstance(qa, dict) else None)
                answer = answer.removesuffix(".") or answer  # the annotators end each answer with one
                if question and answer:
                    asked.append((f"{place}: qas {number}", question, answer))
                else:
                    allowed = f"a question and an answer, each {translations.allowed}"
                    settings.report.bad(f"{place}: qas {number}", qa, allowed)
            name = names[key]
            picture = Picture(root, _existing(root, ("/".join(name.split("/")[-2:]), name.split("/")[-1])))
            if settings.per_image and len(asked) > settings.per_image:
                settings.rng(place).shuffle(asked)
                asked = asked[: settings.per_image]
            for place_of_one, question, answer in asked:
                yield Row("VisualQA", place_of_one, f"image {key}", (question,), (answer,), picture=picture)

    return make_parts(find_files(settings.inputs, QUESTION_FILES), rows)


def _image_names(path: Path, settings: ConvertSettings) -> dict[int, str]:
    """URLs by image id, from the `image_data.json` beside a file of questions. Raises DataError where there is none."""
    found = next((path.parent / name for name in IMAGE_DATA_FILES if (path.parent / name).is_file()), None)
    if found is None:
        raise DataError(f"{path.parent}: has no {IMAGE_DATA_FILES[0]}, which goes with {path.name}")
    names: dict[int, str] = {}
    for place, record in read_records(found, settings.report):
        key = record.get("image_id", record.get("id")) if isinstance(record, dict) else None
        url = clean(record.get("url")) if isinstance(record, dict) else ""
        if not isinstance(key, int) or not url:
            settings.report.bad(place, record, "an object with image_id and url")
        else:
            names[key] = url
    return names


def _root_of(path: Path, folder: str) -> Path:
    """Where images are looked for without --images: beside an annotation file, or beside the folder of such files."""
    return path.parent.parent if path.parent.name == folder else path.parent


def _existing(root: Path, names: tuple[str, ...]) -> str:
    """The first of the names that there is below `root`; the first of all where there is none, to be reported."""
    for name in names:
        try:
            if (root / name).is_file():
                return name
        except (OSError, ValueError):  # too long, or with a zero byte
            continue
    return names[0]
