"""A Hugging Face text-classification pipeline behind the same kind of server.

Purpose: the peer of `kbert serve` in serve_imdb.py. The same route and the same shape
of answer as TensorFlow Serving's REST, an ASGI app in uvicorn, the pipeline called in
a pool of threads or of processes. It runs in an environment of its own
(requirements-peers.txt):

    python -m benchmarks.serving.peer_server FOLDER --name imdb128 --port 8511 \\
        --workers 2 --torch-threads 1

`FOLDER` comes from convert_to_hugging_face.py. With `--batch-size` above 1 the requests
that arrive within `--batch-wait-ms` are answered in one call of the pipeline.
"""

import argparse
import asyncio
import json
import multiprocessing
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import torch
import transformers
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


class Classifier:
    """The pipeline, with answers in the shape of a kbert export's."""

    def __init__(self, folder: str, dtype: str) -> None:
        self._pipeline = transformers.pipeline(
            "text-classification",
            model=folder,
            dtype=getattr(torch, dtype),
            device="cpu",
        )
        config = self._pipeline.model.config
        self._labels = [config.id2label[index] for index in range(config.num_labels)]
        self._max_length = self._pipeline.tokenizer.model_max_length
        # Once, in one thread: a tokenizer cannot be set up while another thread uses
        # it, and every later call sets up the same.
        self.answer(["warm-up"])
        self.answer(["warm-up"] * 2)

    def answer(self, texts: list[str]) -> list[dict[str, Any]]:
        """Returns label, score and probabilities of each text."""
        if len(texts) == 1:  # a plain string spares the pipeline its data loader
            return [self._in_order(self._call(texts[0]))]
        return [self._in_order(scores) for scores in self._call(texts)]

    def _call(self, texts: str | list[str]) -> Any:
        return self._pipeline(
            texts,
            top_k=None,
            batch_size=1 if isinstance(texts, str) else len(texts),
            truncation=True,
            max_length=self._max_length,
        )

    def _in_order(self, scores: list[dict[str, Any]]) -> dict[str, Any]:
        by_label = {score["label"]: score["score"] for score in scores}
        label = max(by_label, key=by_label.__getitem__)
        return {
            "label": label,
            "score": by_label[label],
            "probabilities": [by_label[label] for label in self._labels],
        }


class Batcher:
    """Answers texts in a pool, in one call those that arrive together."""

    def __init__(
        self, pool: Executor, *, workers: int, batch_size: int, wait: float
    ) -> None:
        self._pool = pool
        self._workers = workers
        self._batch_size = batch_size
        self._wait = wait
        self._waiting: asyncio.Queue[tuple[str, asyncio.Future[Any]]] = asyncio.Queue()

    async def answer(self, text: str) -> dict[str, Any]:
        """Returns the answer for a text."""
        loop = asyncio.get_running_loop()
        if self._batch_size == 1:
            answers = await loop.run_in_executor(self._pool, answer, [text])
            return answers[0]
        future = loop.create_future()
        await self._waiting.put((text, future))
        return await future

    @asynccontextmanager
    async def running(self, app: Starlette) -> AsyncIterator[None]:
        """Batches are answered while the block runs."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._keep_answering()) for _ in range(self._workers)
            ]
            yield
            for task in tasks:
                task.cancel()

    async def _keep_answering(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._waiting.get()]
            until = loop.time() + self._wait
            while len(batch) < self._batch_size:
                try:
                    async with asyncio.timeout_at(until):
                        batch.append(await self._waiting.get())
                except TimeoutError:
                    break
            texts, futures = zip(*batch, strict=True)
            answers = await loop.run_in_executor(self._pool, answer, list(texts))
            for future, result in zip(futures, answers, strict=True):
                future.set_result(result)


def make_app(name: str, batcher: Batcher) -> Starlette:
    """The two routes of TensorFlow Serving's REST that a load needs."""

    async def predict(request: Request) -> JSONResponse:
        try:
            instances = json.loads(await request.body())["instances"]
        except (ValueError, KeyError, TypeError) as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        answers = await asyncio.gather(*map(batcher.answer, instances))
        return JSONResponse({"predictions": answers})

    async def status(request: Request) -> JSONResponse:
        version = {"version": "1", "state": "AVAILABLE"}
        return JSONResponse({"model_version_status": [version]})

    path = f"/v1/models/{name}"
    routes = [
        Route(f"{path}:predict", predict, methods=["POST"]),
        Route(path, status),
    ]
    return Starlette(routes=routes, lifespan=batcher.running)


_classifier: Classifier | None = None


def load_classifier(folder: str, dtype: str, torch_threads: int) -> None:
    """Loads the pipeline of this process."""
    global _classifier
    torch.set_num_threads(torch_threads)
    _classifier = Classifier(folder, dtype)


def answer(texts: list[str]) -> list[dict[str, Any]]:
    """Answers with the pipeline of this process."""
    assert _classifier is not None
    return _classifier.answer(texts)


def start_pool(arguments: argparse.Namespace) -> Executor:
    """Threads that share one pipeline, or processes that have one each."""
    settings = (arguments.folder, arguments.dtype, arguments.torch_threads)
    if arguments.pool == "threads":
        load_classifier(*settings)
        return ThreadPoolExecutor(arguments.workers)
    pool = ProcessPoolExecutor(
        arguments.workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=load_classifier,
        initargs=settings,
    )
    # Processes start when they are needed first.
    list(pool.map(answer, [["warm-up"]] * 4 * arguments.workers))
    return pool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", help="a Hugging Face model with its tokenizer")
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, default=8511)
    parser.add_argument("--pool", choices=["threads", "processes"], default="threads")
    parser.add_argument("--workers", type=int, default=1, help="of the pool")
    parser.add_argument("--torch-threads", type=int, default=2, help="of one call")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--batch-wait-ms", type=float, default=2.0)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    arguments = parser.parse_args()
    with start_pool(arguments) as pool:
        batcher = Batcher(
            pool,
            workers=arguments.workers,
            batch_size=arguments.batch_size,
            wait=arguments.batch_wait_ms / 1000,
        )
        app = make_app(arguments.name, batcher)
        uvicorn.run(app, host="127.0.0.1", port=arguments.port, access_log=False)


if __name__ == "__main__":
    main()
