"""Image sources: one file per way in which images are stored.

A source defines `open_images(place: Path)`, which opens one split and returns an object with

- `classes: Sequence[str]`, names of the classes, each once;
- `names: Sequence[str]`, a name for each image, `<class>/<file>` or another relative path, each once;
- `labels: Sequence[int]`, for each image its class, as a place in `classes`;
- `image(index: int) -> PIL.Image.Image`, one decoded image;
- `describe() -> DataSet`, as records name it; its digest must change when an image does.

A path is read by `packed` where a packed store lies, and else by `folder`. `NAME:PLACE` is read by the
source NAME, unless there is a file or folder of that whole name. Tasks append the split: of
`--data zip:/data/x.zip` the source `zip` is asked for `/data/x.zip/train` and `/data/x.zip/val`.
"""

from micl_bench.runtime import plugins

__path__ = plugins.SearchPath("sources", __path__)
