"""COCO's 80 categories: ids, names, order. A wrong label offset shows here."""

from collections import Counter
from collections.abc import Iterator

from micl_bench.data.coco_file import CocoFile
from micl_bench.doctor._finding import Finding, problem, warning
from micl_bench.doctor._names import first
from micl_bench.runtime.wording import counted

_NEVER_USED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
_LIST = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,"
    "parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,"
    "handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,"
    "skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,banana,apple,"
    "sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,"
    "dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
)
_NAMES = _LIST.split(",")
CATEGORIES = dict(
    zip((number for number in range(1, 91) if number not in _NEVER_USED), _NAMES, strict=True)
)
"""Names by id: 80 ids of 1 to 90."""


def check_categories(
    subject: str, file: CocoFile, *, embedded: bool, whole: bool, mend: str
) -> Iterator[Finding]:
    """The file's categories, and which of them is the most frequent."""
    if not embedded:
        yield from _check_list(subject, file.categories, mend)
    used = Counter(file.category_ids)
    # Persons, without crowds: 257,253 of 860,001 in train2017 (a log in facebookresearch/detectron2
    # issue 1134), 10,777 of 36,781 in val2017 (chensnathan/YOLOF issue 27).
    listed = used.keys() <= {number for number, _ in file.categories}
    if whole and used and listed and (most := max(used, key=lambda one: used[one])) != 1:
        found = (
            f"the most frequent category is {most} ({CATEGORIES.get(most)}), in COCO it is person"
        )
        yield problem(subject, f"labels of another order: {found}", mend)


def _check_list(subject: str, categories: list[tuple[int, str]], mend: str) -> Iterator[Finding]:
    ids, names = [number for number, _ in categories], [name for _, name in categories]
    if categories == list(CATEGORIES.items()):
        return
    if not set(names) & set(_NAMES):
        found = (
            f"{counted(len(names), 'category', 'categories')}, none of them COCO's: {first(names)}"
        )
        mend = "it is not COCO: check it against the config that trains on it, --recipe CONFIG"
        yield warning(subject, found, mend)
    elif names == _NAMES and ids in (list(range(80)), list(range(1, 81))):
        yield problem(
            subject,
            f"wrong label offset: categories are renumbered {ids[0]} to {ids[-1]}; COCO's ids are 1 to "
            "90 with gaps",
            f"{mend}; results in these ids fit no other file of COCO's",
        )
    elif missing := [name for name in _NAMES if name not in names]:
        found = f"{counted(len(names), 'category', 'categories')}, without {first(missing)}"
        yield problem(subject, f"{found}: classes are found by name", mend)
    elif sorted(categories) == list(CATEGORIES.items()):
        found = f"categories in another order: {first(names)}"
        yield warning(subject, f"{found}; eval finds them by name, other tools by place", mend)
    else:
        wrong = [
            f"{number} is {name}" for number, name in categories if CATEGORIES.get(number) != name
        ]
        yield problem(
            subject,
            f"{counted(len(wrong), 'category', 'categories')} with other ids: {first(wrong)}",
            mend,
        )
