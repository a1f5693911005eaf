"""The rule of a unified model, on real checkpoints of both formats whose counts are known."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model

from evaluator.core import limits
from evaluator.core.errors import DataError
from evaluator.core.verdict import BAD_WEIGHTS, BAD_ZIP
from evaluator.package import checkpoints
from evaluator.package.shared_parameters import SharedParameters
from tests.support.counting import count
from tests.support.verdicts import raises_verdict

TASKS = ("C2C", "HTR", "ZsOD", "VQA")
State = dict[str, torch.Tensor]


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape)


TRUNK: State = {"encoder.вес": numbers(10, 20), "encoder.bias": numbers(20)}  # 220 parameters


def save(state: State, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)


@pytest.fixture
def submission(tmp_path: Path) -> Callable[..., Path]:
    """A folder with these checkpoints, and models.json where there is one."""

    def make(states: dict[str, State], models: object = None) -> Path:
        root = tmp_path / "моя работа"
        root.mkdir()
        for name, state in states.items():
            save(state, root / name)
        if models is not None:
            (root / "models.json").write_text(json.dumps(models, ensure_ascii=False), encoding="utf-8")
        return root

    return make


def figures(counted: SharedParameters) -> tuple[int, int, bool]:
    return counted.total, counted.shared, counted.met


def rules_and_places(root: Path, **options) -> list[tuple[str, str]]:
    with raises_verdict(BAD_WEIGHTS) as caught:
        count(root, **options)
    return [(finding.rule, finding.where) for finding in caught.value.findings]


def test_a_trunk_in_four_models_of_both_formats(submission):
    """100 parameters of each model are its own."""
    endings = (".safetensors", ".pt", ".bin", ".pth")
    states = {f"веса/{task}{end}": TRUNK | {"head": numbers(100)} for task, end in zip(TASKS, endings, strict=True)}
    counted = count(submission(states))
    assert figures(counted) == (620, 220, True) and counted.share == 220 / 620
    assert counted.source == "each checkpoint" and not counted.others
    assert {model.files[0]: (model.parameters, model.shared) for model in counted.models} == {
        name: (320, 220) for name in states
    }
    assert [(t.name, t.dtype, t.shape, t.parameters, t.tied) for t in counted.tensors] == [
        ("encoder.вес", "F32", (10, 20), 200, ()),
        ("encoder.bias", "F32", (20,), 20, ()),
    ]


def test_one_checkpoint_shares_all_of_itself(submission, monkeypatch):
    monkeypatch.setattr(checkpoints, "digest", lambda *_: pytest.fail("nothing is there to compare it with"))
    counted = count(submission({"model.safetensors": TRUNK}))
    assert figures(counted) == (220, 220, True) and counted.share == 1
    assert any(note.startswith("one model") for note in counted.notes)


@pytest.mark.parametrize(("own", "met"), [(660, True), (661, False)])
def test_exactly_a_quarter_is_enough(submission, own, met):
    counted = count(submission({"a.pt": TRUNK | {"x": numbers(own)}, "b.pt": TRUNK}))
    assert figures(counted) == (220 + own, 220, met)


@pytest.mark.parametrize(
    "other",
    [
        lambda trunk: {name: tensor.half() for name, tensor in trunk.items()},
        lambda trunk: {name: tensor.double() for name, tensor in trunk.items()},
        lambda trunk: {f"module.{name}": tensor for name, tensor in trunk.items()},
        lambda trunk: {name: tensor.view(-1, 1) for name, tensor in trunk.items()},
        lambda trunk: {name: tensor.view(torch.int32) for name, tensor in trunk.items()},
        lambda trunk: {name: torch.nextafter(tensor, tensor + 1) for name, tensor in trunk.items()},
    ],
    ids=["half", "double", "name", "shape", "kind", "last bit"],
)
def test_name_shape_and_bytes_must_be_equal(submission, other):
    counted = count(submission({"a.safetensors": TRUNK, "b.safetensors": other(TRUNK)}))
    assert figures(counted) == (440, 0, False) and not counted.tensors


def test_copies_in_another_precision_are_named(submission):
    half = {name: tensor.half() for name, tensor in TRUNK.items()}
    notes = "\n".join(count(submission({"a.safetensors": TRUNK, "b.pt": half})).notes)
    assert "2 tensors have the same name and shape and not the same kind of numbers" in notes
    assert "F32 in a.safetensors, F16 in b.pt" in notes


def test_what_some_models_share_counts_once_in_n_and_not_in_m(submission):
    pair = {"pair": numbers(50)}
    counted = count(submission({"a.pt": TRUNK | pair, "b.pt": TRUNK | pair, "c.pt": TRUNK}))
    assert figures(counted) == (270, 220, True)


def test_a_transposed_copy_is_equal_where_its_elements_are(submission):
    square = numbers(30, 30)
    counted = count(submission({"a.pt": {"w": square.t()}, "b.safetensors": {"w": square.t().contiguous()}}))
    assert figures(counted) == (900, 900, True)


def test_a_file_under_two_names(submission):
    root = submission({"a.pt": TRUNK})
    (root / "копия.pt").write_bytes((root / "a.pt").read_bytes())
    counted = count(root)
    assert figures(counted) == (220, 220, True) and len(counted.models) == 2


def test_tied_tensors_count_once(submission):
    tied = {"embed": TRUNK["encoder.вес"], "head": TRUNK["encoder.вес"]}
    counted = count(submission({"a.pt": tied | {"x": numbers(7)}}))
    assert figures(counted) == (207, 207, True)
    assert [(tensor.name, tensor.tied) for tensor in counted.tensors] == [("embed", ("head",)), ("x", ())]


def test_tied_tensors_are_one_in_checkpoints_that_store_them_otherwise(submission):
    """torch.save keeps both names of one memory, safetensors one of the names, or two memories."""

    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = torch.nn.Linear(4, 5, bias=False), torch.nn.Linear(4, 5, bias=False)
            self.head.weight = self.embed.weight

    model = Tied()
    root = submission({"a.pt": model.state_dict()})
    save_model(model, root / "b.safetensors")
    save({name: tensor.clone() for name, tensor in model.state_dict().items()}, root / "c.safetensors")
    counted = count(root)
    assert figures(counted) == (20, 20, True)
    assert [(tensor.name, tensor.tied) for tensor in counted.tensors] == [("embed.weight", ("head.weight",))]


def test_tensors_of_one_name_in_one_checkpoint_are_compared(submission):
    """The paths of keys to them are the same text; nothing may disappear so."""
    root = submission({})
    torch.save({"a": {"b": numbers(40)}, "a.b": numbers(40), "same": {"b": torch.ones(3)}}, root / "a.pt")
    assert figures(count(root)) == (83, 83, True)


def test_buffers_count_and_integers_are_noted(submission):
    """Equal masks in models that share nothing else."""
    mask = {"mask": torch.ones(10, 10, dtype=torch.bool), "step": torch.tensor(3)}
    counted = count(submission({"a.pt": mask | {"x": numbers(50)}, "b.pt": mask | {"x": numbers(50)}}))
    assert figures(counted) == (201, 101, True)
    assert any(note.startswith("101 of the shared parameters and 101 of all are integers") for note in counted.notes)


# --- which checkpoints make up a model ---


HEADS = {f"головы/{task}.safetensors": {"head": numbers(100)} for task in TASKS}
WITH_HEADS = {task: ["trunk.pt", f"головы/{task}.safetensors"] for task in TASKS}


def test_a_trunk_and_heads_by_models_json(submission):
    root = submission({"trunk.pt": TRUNK} | HEADS, WITH_HEADS)
    counted = count(root)
    assert figures(counted) == (620, 220, True) and counted.source == "models.json"
    assert [(model.tasks, model.parameters, model.shared) for model in counted.models] == [
        ((task,), 320, 220) for task in TASKS
    ]
    (root / "models.json").unlink()
    assert figures(count(root)) == (620, 0, False)  # five models that have nothing in common


def test_the_caller_goes_before_models_json(submission):
    root = submission({"trunk.pt": TRUNK, "spare.pt": {"x": numbers(30)}} | HEADS, {"nonsense": 1})
    counted = count(root, {"C2C": ["trunk.pt"], "HTR": ["./trunk.pt"], "VQA": ["trunk.pt", "головы/"]})
    assert figures(counted) == (650, 220, True) and counted.source == "--model"
    assert [model.tasks for model in counted.models] == [("C2C", "HTR"), ("VQA",)]


def test_checkpoints_of_no_task_count_in_n(submission):
    big = {"x": numbers(10_000)}
    counted = count(submission({"trunk.pt": TRUNK, "запас.pt": big}, {task: "trunk.pt" for task in TASKS}))
    assert figures(counted) == (10_220, 220, False)
    assert [(model.files, model.parameters, model.shared) for model in counted.others] == [(("запас.pt",), 10_000, 0)]


def test_tasks_of_the_competition_must_all_have_a_model(submission):
    root = submission({"trunk.pt": TRUNK}, {task: "trunk.pt" for task in TASKS[:3]})
    assert figures(count(root)) == (220, 220, True)
    with raises_verdict(BAD_WEIGHTS, "names no model of the task VQA"):
        count(root, tasks=TASKS)
    with pytest.raises(DataError, match="'vqa' is no task; there are C2C, HTR, ZsOD, VQA; is 'VQA' meant"):
        count(root, dict.fromkeys((*TASKS, "vqa"), ["trunk.pt"]), tasks=TASKS)
    with pytest.raises(DataError, match="two tasks or more"):
        count(root, {"C2C": ["trunk.pt"]})


@pytest.mark.parametrize(
    ("models", "found"),
    [
        ([], "must be an object"),
        ({}, "must be an object"),
        ({"C2C": 7, "HTR": "trunk.pt"}, "must be a path or a list of paths, not 7"),
        ({"C2C": [], "HTR": "trunk.pt"}, "must be a path or a list of paths, not []"),
        ({"C2C": [["trunk.pt"]], "HTR": "trunk.pt"}, "must be a path"),
        ({"\x1b[2J": "trunk.pt", "HTR": "trunk.pt"}, r"'\x1b[2J' is no name of a task"),
        ({"C2C": "trunk.safetensors", "HTR": "trunk.pt"}, "'trunk.safetensors' is no checkpoint"),
        ({"C2C": "../trunk.pt", "HTR": "trunk.pt"}, "is 'trunk.pt' meant?"),
        ({"C2C": "/etc", "HTR": "trunk.pt"}, "'/etc' is no checkpoint"),
        ({"C2C": "empty.pt", "HTR": "trunk.pt"}, "'empty.pt' has no parameters"),
        ({"C2C": "trunk.pt"}, "two tasks or more"),
        ({f"{number}": "." for number in range(1001)}, "names 1001 tasks"),
    ],
)
def test_wrong_models_json(submission, models, found):
    root = submission({"trunk.pt": TRUNK, "empty.pt": {}}, models)
    with raises_verdict(BAD_WEIGHTS) as caught:
        count(root)
    (finding,) = caught.value.findings
    assert (finding.rule, finding.where) == ("models", "models.json") and found in finding.found


def test_models_json_that_is_no_json(submission):
    root = submission({"trunk.pt": TRUNK})
    (root / "models.json").write_bytes(b'{"C2C": "trunk.pt", "C2C": "trunk.pt"}')
    assert rules_and_places(root) == [("duplicate-key", "models.json")]


def sharded(root: Path, **tensors: torch.Tensor) -> None:
    """A shard a tensor, and their index, as transformers names them."""
    names = [f"model-{number:05}-of-{len(tensors):05}.safetensors" for number in range(1, len(tensors) + 1)]
    for name, tensor in zip(names, tensors.items(), strict=True):
        save(dict([tensor]), root / name)
    index = {"metadata": {}, "weight_map": dict(zip(tensors, names, strict=True))}
    (root / "model.safetensors.index.json").write_text(json.dumps(index))


def test_the_shards_of_an_index_are_one_model(submission):
    root = submission({"whole.pt": {"a": TRUNK["encoder.вес"], "b": TRUNK["encoder.bias"]}})
    sharded(root / "части", a=TRUNK["encoder.вес"], b=TRUNK["encoder.bias"], c=numbers(30))
    counted = count(root)
    assert figures(counted) == (250, 220, True)
    assert sorted((len(model.files), model.parameters) for model in counted.models) == [(1, 220), (3, 250)]
    by_index = {"C2C": ["whole.pt"], "HTR": ["части/model.safetensors.index.json"]}
    assert figures(count(root, by_index)) == figures(count(root, by_index | {"HTR": ["части"]})) == (250, 220, True)


def test_one_sharded_model_shares_all_of_itself(submission):
    root = submission({})
    sharded(root, a=numbers(3), b=numbers(4))
    assert figures(count(root)) == (7, 7, True)


@pytest.mark.parametrize(
    ("places", "found"),
    [
        (
            {"a": "model-00001-of-00002.safetensors", "b": "none.safetensors"},
            "'none.safetensors', which is no checkpoint",
        ),
        ({"a": "../../etc/passwd"}, "which is no checkpoint"),
        ({"b": "model-00001-of-00002.safetensors"}, "says that 'b' is in 'model-00001-of-00002.safetensors', which"),
        ({}, "has no weight_map"),
        ({"a": 1}, "has no weight_map"),
        ([], "has no weight_map"),
    ],
)
def test_an_index_that_is_not_as_its_shards(submission, places, found):
    root = submission({})
    sharded(root, a=numbers(3), b=numbers(4))
    (root / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with raises_verdict(BAD_WEIGHTS) as caught:
        count(root)
    (finding,) = caught.value.findings
    assert (finding.rule, finding.where) == ("checkpoint-index", "model.safetensors.index.json")
    assert found in finding.found


# --- what is no checkpoint, and where there is none ---


def test_no_checkpoint(submission):
    root = submission({})
    assert rules_and_places(root) == [("checkpoint-missing", root.name)]
    (root / "run.py").write_text("pass")
    (root / "vocabulary.bin").write_bytes(b"no ZIP" * 100)
    save({"none": torch.ones(0, 3)}, root / "empty.safetensors")
    assert rules_and_places(root) == [("checkpoint-missing", root.name)]


def test_what_is_no_checkpoint_is_named_where_it_is_large(submission):
    root = submission({"a.pt": TRUNK, "args.bin": {}})
    (root / "веса.npz").write_bytes(bytes(2_000_000))
    (root / "bpe.bin").write_bytes(bytes(1_000_000))
    (root / "run.py").write_text("pass")
    counted = count(root)
    assert figures(counted) == (220, 220, True)
    assert "not read, as these are no checkpoints, 3000000 bytes together: веса.npz, bpe.bin" in counted.notes
    assert "without parameters, and no model: args.bin" in counted.notes


def test_a_folder_counts_as_it_is_packed(submission):
    root = submission({"a.pt": TRUNK, "training/last.ckpt": {"x": numbers(9)}, "старое/b.pt": {"x": numbers(9)}})
    (root / ".submissionignore").write_text("/старое/\n", encoding="utf-8")
    assert figures(count(root)) == (220, 220, True)


def test_a_zip_counts_all_that_it_holds(submission, tmp_path):
    root = submission({"веса/a.pt": TRUNK, "training/b.safetensors": TRUNK | {"x": numbers(9)}})
    with zipfile.ZipFile(tmp_path / "s.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for path in root.rglob("*.*"):
            file.write(path, path.relative_to(root))
    counted = count(tmp_path / "s.zip")
    assert figures(counted) == (229, 220, True)
    assert [model.files for model in counted.models] == [("training/b.safetensors",), ("веса/a.pt",)]


def test_neither_folder_nor_zip(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        count(tmp_path / "none.zip")
    (tmp_path / "s.zip").write_bytes(b"no ZIP")
    with raises_verdict(BAD_ZIP):
        count(tmp_path / "s.zip")


def test_all_faults_at_once(submission):
    root = submission({"a.pt": TRUNK}, {"\n": "a.pt"})
    (root / "old.pt").write_bytes(b"")
    (root / "b.safetensors").write_bytes(b"")
    (root / "model.bin").write_bytes(b"PK\3\4")
    assert sorted(rules_and_places(root)) == [
        ("checkpoint-damaged", "b.safetensors"),
        ("checkpoint-damaged", "model.bin"),
        ("checkpoint-format", "old.pt"),
        ("models", "models.json"),
    ]


def test_too_many_tensors_and_checkpoints(submission, monkeypatch):
    root = submission({f"{number}.safetensors": TRUNK for number in range(4)})
    monkeypatch.setattr(limits, "MAX_TENSORS", 7)
    assert rules_and_places(root) == [("checkpoint-size", "3.safetensors")]
    monkeypatch.setattr(limits, "MAX_CHECKPOINTS", 3)
    assert rules_and_places(root) == [("checkpoint-size", "")]


def test_the_document_and_the_table_say_the_same(submission):
    counted = count(submission({"trunk.pt": TRUNK, "запас.pt": {"x": numbers(9)}} | HEADS, WITH_HEADS), required=0.9)
    document = json.loads(json.dumps(counted.to_json()))
    assert (document["met"], document["total"], document["shared"], document["required"]) == (False, 629, 220, 0.9)
    assert [tensor["name"] for tensor in document["tensors"]] == ["encoder.вес", "encoder.bias"]
    assert document["models"][3]["tasks"] == ["VQA"] and document["others"][0]["files"] == ["запас.pt"]
    lines = counted.lines()
    rows = [line.split() for line in lines]
    assert ["trunk.pt", "+", "головы/VQA.safetensors", "VQA", "320", "220", "68.8%"] in rows
    assert ["запас.pt", "none", "9", "0", "0.0%"] in rows
    assert lines[-1] == ("220 of 629 parameters are common to all tasks' models, 0.3498; at least 0.9 needed: not met")
