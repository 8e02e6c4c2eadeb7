"""Names of checkpoints and architectures, looked up without reading or downloading anything."""

from micl_bench.backbone import arch_names, named_arch, timm_vit
from micl_bench.checkpoints._public import known_public
from micl_bench.checkpoints._told import pixels_told, told_by


def require_names(source: str, *, arch: str = "", pixels: str = "") -> None:
    """Raise an InputError where a source is `random:`, `timm:` or `public:` and something unknown, or
    where an architecture, a value of it or the name of pixels is."""
    kind, _, name = source.partition(":")
    if kind == "random" and name:
        named_arch(name)
    elif kind == "timm" and name:
        timm_vit(name)
    elif kind == "public" and name:
        known_public(name)
    named = told_by(arch).name if arch else None
    if named is not None and named not in arch_names():
        timm_vit(named)
    if pixels:
        pixels_told(pixels)
