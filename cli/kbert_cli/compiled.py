"""What JAX has compiled, kept for the next start."""

import os
from pathlib import Path


def keep_compiled() -> None:
    """Has JAX keep what took it a second to compile, in the user's cache folder.

    A folder that is named by JAX_COMPILATION_CACHE_DIR stays. To be called before the
    first computation.
    """
    import keras

    if keras.config.backend() != "jax":
        return
    import jax

    if jax.config.jax_compilation_cache_dir is None:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(root, "kbert", "jax")))
