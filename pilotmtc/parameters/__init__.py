"""Where the values of many tasks come from: lists, lines, files and grids, and products of them.

Every source streams: nothing here holds all the values, except those of the inner sources of a product when they are
few or can be read only once.
"""

from pilotmtc.parameters.files import FORMATS, file, lines
from pilotmtc.parameters.grids import axis, grid
from pilotmtc.parameters.source import Row, Source, combine, split_lists, values

__all__ = ["FORMATS", "Row", "Source", "axis", "combine", "file", "grid", "lines", "split_lists", "values"]
