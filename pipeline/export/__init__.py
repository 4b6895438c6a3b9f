"""Writing the clips of a dataset into files that other programs read."""

from skelpipe.export.formats import EXPORT_FORMATS, Exported, ExportFormat, export

__all__ = ["EXPORT_FORMATS", "ExportFormat", "Exported", "export"]
