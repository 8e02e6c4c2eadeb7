"""`--set` of an mmengine config: what cannot be is refused in one short line."""

from pathlib import Path

import pytest
from mmengine.config import Config

from micl_bench.openmmlab.configs import read
from micl_bench.openmmlab.overrides import apply, check_bounds
from micl_bench.runtime.errors import InputError

DOWNSTREAM = Path(__file__).parents[2] / "downstream"
CONFIGS = ("embedded_upernet.py", "embedded_mask_rcnn.py")
KEYS = (
    *("val_dataloader.batch_size", "train_dataloader.num_workers", "optim_wrapper.optimizer.lr"),
    *("auto_scale_lr.base_batch_size", "model.backbone.img_size", "model.backbone", "model"),
    *("optim_wrapper.optimizer.betas", "model.data_preprocessor.bgr_to_rgb", "param_scheduler"),
    *("train_dataloader", "val_evaluator", "nothing", "model.nothing", "model.backbone.type.x"),
)
NASTY = (
    *("-1", "1.5", "nan", "inf", "1e999", "[1e999]", "many", "", "[" * 900, "[" * 100_000),
    *("9" * 5000, "x" * 100_000, "a\nb", "\x1b[31m", "{1: [", "*x", "true-ish", "-1e400"),
)


def line(error: InputError) -> str:
    text = f"error: {error}"
    assert len(text) <= 300
    assert text.isprintable()
    assert not any(word in text for word in ("mmengine", "literal", "Traceback", "<class"))
    return text


@pytest.mark.parametrize("name", CONFIGS)
def test_a_nasty_value_is_refused_in_one_line(name: str) -> None:
    whole = Config.fromfile(DOWNSTREAM / name)
    taken = set()
    for key in KEYS:
        for value in NASTY:
            config = whole.copy()
            try:
                apply(config, f"{key}={value}")
                check_bounds(config)
            except InputError as error:
                line(error)
            else:
                taken.add(key)
    # A rate may be any finite number.
    assert taken == {"optim_wrapper.optimizer.lr"}


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("val_dataloader.batch_size=0", "val_dataloader.batch_size is 0; needed: 1 or more"),
        ("val_dataloader.batch_size=1.5", "is 1.5; needed: a whole number"),
        ("auto_scale_lr.base_batch_size=-4", "is -4; needed: 1 or more"),
        ("train_dataloader.num_workers=100000", "needed: from 0 to 1,024"),
        ("model.data_preprocessor.bgr_to_rgb=maybe", "needed: true or false"),
        ("optim_wrapper.optimizer.betas=0.9", "needed: several values in brackets"),
        ("val_dataloader=3", "needed: one of its values set; it has batch_size, num_workers"),
        ("nothing=3", "the config has no 'nothing'; it has "),
    ],
)
def test_the_line_says_what_was_given_and_what_is_allowed(assignment: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        read(DOWNSTREAM / "embedded_upernet.py", [assignment])
    assert words in line(caught.value)


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("optim_wrapper.optimizer.lr=1", 1),
        ("optim_wrapper.optimizer.betas=(0.8, 0.9)", (0.8, 0.9)),
        ("model.data_preprocessor.bgr_to_rgb=false", False),
        ("model.auxiliary_head=None", None),
        ("val_dataloader.dataset.indices=7", 7),
        ("train_cfg.max_iters=2", 2),
        ("model.backbone.checkpoint=a.pt", "a.pt"),
    ],
)
def test_values_of_their_kind_are_set(assignment: str, value: object) -> None:
    config = read(DOWNSTREAM / "embedded_upernet.py", [assignment])
    node = config
    for part in assignment.partition("=")[0].split("."):
        node = node[part]
    assert node == value
    assert type(node) is type(value)


def test_a_config_file_with_such_a_value_gets_the_same_line(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text(
        (DOWNSTREAM / "embedded_upernet.py").read_text() + "val_dataloader['batch_size'] = -1\n"
    )
    with pytest.raises(InputError, match="batch_size is -1; needed: 1 or more"):
        read(path, [])
