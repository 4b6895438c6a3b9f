"""The page of `browse`: clips of datasets, moving and filtered, and the curves and figures of several runs."""
