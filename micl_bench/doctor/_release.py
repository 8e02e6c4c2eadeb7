"""Numbers of images against a release's: a remark, as data of one's own may be laid out like it."""

from micl_bench.doctor._finding import Finding, ok, warning

# Of fewer images somebody chose them; of more, some were lost.
_NEARLY = 0.9


def against_release(
    subject: str, found: str, *, title: str, images: int, expected: int, unpack: str
) -> Finding:
    """What is there, and how many images the release has where it has others.

    Args:
        expected: 0 where it is no copy of the release.
        unpack: what makes the release whole again.
    """
    if not expected or images == expected:
        return ok(subject, found)
    own = "for data of your own, --recipe CONFIG checks against the config instead"
    if images > expected:
        return warning(
            subject, f"{found}; the release has {expected:,}", f"of {title}, {unpack}; {own}"
        )
    if images > _NEARLY * expected:
        missing = f"{found}; the release has {expected - images:,} more"
        return warning(subject, missing, f"of {title}, {unpack}; {own}")
    name_it = f"name the subset wherever its numbers are shown; whole, it has {expected:,} images"
    return warning(subject, f"{found}: a part of {title}", f"{name_it}; {own}")
