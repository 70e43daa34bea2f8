"""Sources of parameter values for many tasks: lists, lines, files and grids, and products of them.

Sources stream. Nothing here holds all values, except those of a product's inner sources if there are few of them or
if they can be read only once.
"""

from pilotmtc.parameters.files import FORMATS, file, lines
from pilotmtc.parameters.grids import axis, grid
from pilotmtc.parameters.source import Row, Source, combine, numbered, split_lists, values
from pilotmtc.template.changes import as_number

__all__ = [
    "FORMATS", "Row", "Source", "as_number", "axis", "combine", "file", "grid", "lines", "numbered", "split_lists",
    "values",
]  # fmt: skip
