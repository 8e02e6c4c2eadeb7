"""Names of checkpoints and architectures, looked up without reading or downloading anything."""

from micl_bench.backbone import arch_names, named_arch
from micl_bench.checkpoints._infer import timm_vit
from micl_bench.checkpoints._public import known_public


def require_names(source: str, *, arch: str = "") -> None:
    """Raise an InputError where a source is `random:`, `timm:` or `public:` and something unknown, or
    where an architecture is."""
    kind, _, name = source.partition(":")
    if kind == "random" and name:
        named_arch(name)
    elif kind == "timm" and name:
        timm_vit(name)
    elif kind == "public" and name:
        known_public(name)
    if arch and arch not in arch_names():
        timm_vit(arch)
