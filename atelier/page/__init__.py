"""HTML pages that work from `file://`: the page of a run, and the explorer, in which a model runs in the browser."""
