"""PHQ data: photos of people to a reviewed, versioned 360-degree portrait dataset.

The light core (`camera`, `rig`, `schema`, `release.reader`) needs numpy, pyarrow, safetensors, fsspec and
pydantic; everything else needs the extra `pipeline`. What "data specification, section N" means:
docs/references.md.
"""

__version__ = "0.2.0.dev0"  # of all packages: their pyproject.toml read it here
