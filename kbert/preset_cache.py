"""Named presets: in this machine's cache, or downloaded into it.

keras-hub's own `from_preset(name)` asks the network for optional files even where
all needed ones are cached, and so fails offline. Here the cache is asked first, and
the network only where a needed file is missing.
"""

import logging
import queue
import ssl
import threading
import urllib.error
import urllib.request
from pathlib import Path

from kbert.errors import PresetError
from kbert.preset_files import read_architecture
from kbert.preset_weights import find_weights

logger = logging.getLogger(__name__)

HUGGING_FACE = "hf://"
KAGGLE = "kaggle://"
REACH_SECONDS = 5.0

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_TOKENIZER = ("tokenizer.json", "assets/tokenizer/vocabulary.txt")
_HUGGING_FACE_PATTERNS = [
    *(_CONFIG, *_TOKENIZER, "tokenizer_config.json", "vocab.txt"),
    *(_WEIGHTS, "model.weights.json", "model_*.weights.h5"),
    *("model.safetensors", "model.safetensors.index.json", "model-*.safetensors"),
]


def find_cached(handle: str) -> Path | None:
    """The folder with a complete copy of a preset; never asks the network.

    Args:
        handle: `kaggle://OWNER/MODEL/FRAMEWORK/VARIATION/VERSION` or
            `hf://USER/REPO`.

    Raises:
        PresetError: the handle is misspelt.
    """
    if handle.startswith(HUGGING_FACE):
        return _find_in_hugging_face_cache(handle.removeprefix(HUGGING_FACE))
    return _find_in_kaggle_cache(handle.removeprefix(KAGGLE))


def fetch(name: str, handle: str) -> Path:
    """The folder of a preset: the cached copy, else a download into the cache.

    Raises:
        PresetError: it is not cached and cannot be downloaded; says what was tried
            and what to do.
    """
    cached = find_cached(handle)
    if cached is not None:
        return cached
    logger.info("%s is not on this machine: downloading it from %s", name, handle)
    if handle.startswith(HUGGING_FACE):
        return _download_from_hugging_face(name, handle.removeprefix(HUGGING_FACE))
    return _download_from_kaggle(name, handle.removeprefix(KAGGLE))


def _find_in_kaggle_cache(path: str) -> Path | None:
    from kagglehub.cache import Cache
    from kagglehub.handle import parse_model_handle

    model, cache = parse_model_handle(path), Cache()
    folder = Path(cache.get_path(model))
    if cache.load_from_cache(model):  # downloaded as a whole
        return folder if _is_complete(folder) else None
    # A file is marked when its download has ended; a broken one is not.
    if not cache.load_from_cache(model, _CONFIG) or not _is_complete(folder):
        return None
    needed = [*_TOKENIZER, *(f.name for f in find_weights(folder, "keras_hub"))]
    marked = all(cache.load_from_cache(model, file) for file in needed)
    return folder if marked else None


def _find_in_hugging_face_cache(repository: str) -> Path | None:
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = huggingface_hub.snapshot_download(
            repository, allow_patterns=_HUGGING_FACE_PATTERNS, local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise PresetError(
            f"A preset on Hugging Face is named hf://USER/REPO. Received: "
            f"hf://{repository}. {error}"
        ) from None
    return Path(folder) if _is_complete(Path(folder)) else None


def _is_complete(folder: Path) -> bool:
    """Whether config, weights and a vocabulary are there; not whether they fit."""
    try:
        find_weights(folder, read_architecture(folder)[0])
    except PresetError:
        return False
    vocabularies = (_TOKENIZER[1], "vocab.txt", "tokenizer.json")
    return any((folder / file).is_file() for file in vocabularies)


def _download_from_kaggle(name: str, path: str) -> Path:
    import kagglehub
    from kagglehub import exceptions
    from kagglehub.cache import Cache
    from kagglehub.handle import parse_model_handle

    model = parse_model_handle(path)
    try:
        _check_reachable(model.to_url())
        # No published BERT is so large that keras-hub would split its weights.
        for file in (_CONFIG, *_TOKENIZER, _WEIGHTS):
            downloaded = Path(kagglehub.model_download(path, file))
        return downloaded.parent
    except (
        OSError,  # the requests library's errors too
        exceptions.BackendError,
        exceptions.CredentialError,
        exceptions.DataCorruptionError,
        exceptions.NotFoundError,
        exceptions.UnauthenticatedError,
    ) as error:
        folder, url = Path(Cache().get_path(model)), model.to_url()
        raise _not_available(name, folder, url, error, "KAGGLEHUB_CACHE") from error


def _download_from_hugging_face(name: str, repository: str) -> Path:
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    try:
        if constants.HF_HUB_OFFLINE:
            raise ConnectionError("HF_HUB_OFFLINE forbids to ask the network")
        _check_reachable(constants.ENDPOINT)
        return Path(
            huggingface_hub.snapshot_download(
                repository, allow_patterns=_HUGGING_FACE_PATTERNS
            )
        )
    except (OSError, HfHubHTTPError) as error:
        cache, url = Path(constants.HF_HUB_CACHE), constants.ENDPOINT
        raise _not_available(name, cache, url, error, "HF_HUB_CACHE") from error


def _not_available(
    name: str, folder: Path, url: str, error: Exception, variable: str
) -> PresetError:
    cause = getattr(error, "reason", None) or error  # of an URLError: the system's
    reason = str(cause).strip().partition("\n")[0] or type(error).__name__
    return PresetError(
        f"The preset {name} is not on this machine and cannot be downloaded.\n"
        f"  Tried: {folder} (no complete copy), then {url} ({reason}).\n"
        "  Run once with a network, after which it works without; or copy the "
        "preset's folder here and give its path as --preset; or set "
        f"{variable} to a cache that has it."
    )


def _check_reachable(url: str) -> None:
    """Ask a host for any answer at all, within seconds.

    In a thread of its own, since looking up a name can hang longer than any timeout
    of a connection. Goes through the proxies that the environment names.

    Raises:
        OSError: no answer.
    """
    answers: queue.Queue[OSError | None] = queue.Queue()

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=REACH_SECONDS).close()
        except urllib.error.HTTPError:
            answers.put(None)  # an answer
        except OSError as error:
            reason = getattr(error, "reason", None)
            # Certificates are the download's business: it may have its own.
            certificate = isinstance(reason, ssl.SSLError)
            answers.put(None if certificate else error)
        else:
            answers.put(None)

    threading.Thread(target=ask, daemon=True).start()
    try:
        error = answers.get(timeout=REACH_SECONDS + 1)
    except queue.Empty:
        raise TimeoutError(f"no answer within {REACH_SECONDS:.0f} s") from None
    if error is not None:
        raise error
