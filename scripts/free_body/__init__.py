"""The steps of :mod:`scripts.build_free_body` that need no source model: rig, mesh, regressors and surface."""
