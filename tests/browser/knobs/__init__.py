"""The rows of knobs on the run page: keys, sizes and *Undo*."""
