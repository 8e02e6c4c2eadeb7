"""Class folders of image files, `<split>/<class>/<image>`; a path is read so if nothing else fits."""

from micl_bench.data.folder import open_folder as open_images

__all__ = ["open_images"]
