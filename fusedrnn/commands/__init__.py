"""One module per command of `fusedrnn`: ``add`` makes its parser, ``run`` does its work."""
