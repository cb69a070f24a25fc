"""The application: which route leads where."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Lifespan

from shared.net import hosts
from shared.results.store import Store
from shared.settings import Settings
from shared.tracing.spans import Tracing
from shared.version import __version__

from .auth import KeyCheck
from .background import forever
from .bulk.openai.files import Files
from .bulk.openai.service import OpenAIBatches
from .bulk.openai.terms import dialect_of
from .bulk.service import Bulk
from .caching.metrics import CacheMetrics
from .console.access import Access
from .console.data import ConsoleData
from .console.page.assets import Assets
from .console.redis_access import ConsoleRedis
from .docs import openapi
from .docs.page import render
from .grpc.start import listener_of
from .http.cors import Cors
from .http.express import Express
from .http.middleware import Boundary
from .http.rules import Rules
from .inference.context import AppContext
from .inference.dialects import DIALECTS, Dialects, of_platforms
from .inference.platforms import sagemaker
from .inference.platforms.chosen import chosen_model
from .later.interface import LaterRequests
from .load.answer_budget import AnswerBudget
from .load.body_budget import BodyBudget
from .load.in_flight import InFlight
from .metrics import ApiMetrics, Registry
from .queue.interface import Queue
from .request_log.redis_log import RedisRequestLog
from .routes import batches, events, explain, files, openai_batches, requests, uploads
from .routes.console import actions, session
from .routes.console import feed as console_feed
from .routes.console.page import ConsolePage
from .routes.models import Models
from .routes.open_inference import OpenInferenceService
from .routes.predict import Predict
from .routes.service import Service, is_ready
from .store.aside import StoreAside
from .webhooks.courier import Courier
from .webhooks.hook import Hooks

if TYPE_CHECKING:
    from .grpc.listener import Listener

MEASURED = frozenset({requests.PATH, "/v1/models", "/v1/models/{model}", "/healthz", "/readyz"})
"""Path templates with a duration of their own, besides those of the dialects."""


class Application(Starlette):
    """Starlette with one layer around its router instead of three: ``Boundary`` does what the other two would.

    Attributes:
        express: the way around ASGI for the common predict request; ``server.config`` hands it to the protocol.
        rules: what the protocol has to know; ``server.config`` hands it on, too.
        beside: the listener for gRPC, which the server starts and stops with its own; None for none.
    """

    beside: Listener | None = None

    def __init__(
        self,
        routes: list[BaseRoute],
        lifespan: Lifespan[Starlette],
        metrics: ApiMetrics,
        express: Express,
        dialects: Dialects,
        key_check: KeyCheck | None,
        rules: Rules,
    ) -> None:
        super().__init__(routes=routes, lifespan=lifespan)
        self._boundary = Boundary(self.router, metrics, MEASURED.union(dialects), dialects, key_check, rules.cors)
        self.express, self.rules = express, rules

    def build_middleware_stack(self) -> ASGIApp:
        return self._boundary


def create_app(
    settings: Settings,
    queue: Queue,
    registry: Registry,
    *,
    commit: str | None = None,
    tracing: Tracing | None = None,
    dialects: Dialects = DIALECTS,
    later: LaterRequests | None = None,
    courier: Courier | None = None,
    console_data: ConsoleData | None = None,
    store: Store | None = None,
    request_log: RedisRequestLog | None = None,
) -> Application:
    """Make the application.

    Args:
        settings: limits and defaults.
        queue: started and closed by the application's lifespan.
        registry: where metrics are registered and what /metrics shows; a fresh one per application.
        commit: commit of the source, for /version.
        tracing: where spans of requests with a traceparent go; None for nowhere.
        dialects: the paths that are asked through the queue, and their codecs.
        later: takes requests that are answered later, started and closed like the queue; None answers them at once.
        courier: delivers webhooks, if the settings have a secret to sign them with.
        console_data: what the console shows, started and closed like the queue; None for no console data.
        store: the result store, closed by the application's lifespan; None for none.
        request_log: takes what becomes of requests, started and closed like the queue; None for none.

    Raises:
        shared.settings.SettingsError: the file of API keys cannot be used, or gRPC is asked for and cannot be served.
    """
    key_check = None if settings.keys_file is None else KeyCheck(settings.keys_file)
    body_budget = BodyBudget(settings.receiving_limit_bytes)
    answer_budget = AnswerBudget(settings.sending_limit_bytes, settings.write_timeout_s)
    cors = None if settings.cors_origins is None else Cors(settings.cors_origins)
    rules = Rules(body_budget, answer_budget, hosts.of_settings(settings), cors)
    in_flight = InFlight(settings.max_in_flight)
    metrics = ApiMetrics(
        registry,
        __version__,
        commit,
        in_flight,
        body_budget,
        answer_budget,
        lambda: queue.catalogue().models,
        lambda: {name: len(state.failures) for name, state in queue.catalogue().models.items()},
        lambda: {name: len(state.versions) for name, state in queue.catalogue().models.items()},
    )
    aside = None if store is None else StoreAside(store)
    ended = None if request_log is None else request_log.ended
    context = AppContext(settings, queue, metrics, body_budget, in_flight, later, aside, ended)
    CacheMetrics(context.equal_requests, registry)
    bulk = Bulk(settings, context, store, dialect_of)
    by_parts = uploads.UploadRoutes(context.large_bodies.uploads, body_budget)
    dialects = {
        **of_platforms(lambda: chosen_model(queue.catalogue(), settings.default_model), settings.predict_route),
        **dialects,
    }
    metrics.show_listeners(lambda: context.waiting.count)
    document = openapi.document(settings)
    models, service = Models(queue), Service(queue, metrics, rules, commit, document, render(document), key_check)
    console_redis = ConsoleRedis(settings)
    routes: list[BaseRoute] = [
        *(
            Route(path, Predict(context, path, codec, tracing), methods=[*codec.methods])
            for path, codec in dialects.items()
        ),
        Route(requests.PATH, requests.Requests(context, dialects).answer, methods=["GET", "DELETE"]),
        Route(events.PATH, events.Events(context), methods=["GET"]),
        *explain.routes(context, request_log),
        *_bulk_routes(bulk, Hooks.of(settings)),
        *_file_routes(bulk, Files(aside, settings.bulk_mb << 20), queue, body_budget),
        *(Route(path, by_parts.answer, methods=[*methods]) for path, methods in uploads.METHODS.items()),
        Route("/v1/models", models.list),
        Route("/v1/models/{model}", models.one),
        *OpenInferenceService(queue, rules, context.statistics).routes(),
        Route("/healthz", service.health),
        Route("/readyz", service.ready),
        Route("/version", service.version),
        Route("/openapi.json", service.openapi),
        Route("/docs", service.docs),
        Route(sagemaker.PING, service.ping),
        *([] if settings.health_route is None else [Route(settings.health_route, service.ping)]),
        *session.routes(queue),
        *([] if console_data is None else console_feed.routes(console_data, queue)),
        *actions.routes(settings, queue, console_redis, body_budget, metrics, rules),
    ]

    routes += ConsolePage(Assets(), lambda: is_ready(queue.catalogue(), rules)).routes()
    if settings.shares_port:
        routes.append(Route("/metrics", service.metrics_elsewhere))
    elif settings.api_metrics_port is None:
        routes.append(Route("/metrics", service.metrics))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await queue.start()
        if later is not None:
            await later.start(lambda: rules.is_draining)
        if request_log is not None:
            await request_log.start()
        if courier is not None:
            courier.start()
        await bulk.start()
        if console_data is not None:
            counts, caches = metrics.requests.counts, context.equal_requests.models
            await console_data.start(queue.catalogue, counts, lambda: rules.is_draining, caches)
        works = {} if key_check is None else {"Watching the file of API keys": key_check.watch}
        if aside is not None:
            works["Sweeping the result store"] = aside.sweep
        tasks = [asyncio.create_task(forever(what, work)) for what, work in works.items()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if console_data is not None:
                await console_data.close()
            if app.beside is not None:
                await app.beside.stopped()
            await bulk.close()
            if later is not None:
                await later.close()
            if courier is not None:
                await courier.close()
            if request_log is not None:
                await request_log.close()
            await console_redis.close()
            await queue.close()
            if aside is not None:
                aside.close()

    app = Application(
        routes, lifespan, metrics, Express(context, dialects, key_check, cors), dialects, key_check, rules
    )
    app.router.redirect_slashes = False
    app.state.console_access = Access.of(settings)
    app.beside = listener_of(
        settings, context, key_check, tracing, answer_budget, lambda: is_ready(queue.catalogue(), rules)
    )
    return app


def _bulk_routes(bulk: Bulk, hooks: Hooks) -> list[BaseRoute]:
    routes = batches.Batches(bulk, hooks)
    return [
        Route(batches.LIST_PATH, routes.all, methods=["GET", "POST"]),
        Route(batches.PATH, routes.one, methods=["GET", "DELETE"]),
        Route(batches.RESULTS_PATH, routes.results, methods=["GET"]),
    ]


def _file_routes(bulk: Bulk, stored: Files, queue: Queue, body_budget: BodyBudget) -> list[BaseRoute]:
    made = OpenAIBatches(bulk, stored, queue)
    of_files, of_batches = files.FileRoutes(stored, made), openai_batches.OpenAIBatchRoutes(made, body_budget)
    return [
        Route(files.LIST_PATH, of_files.all, methods=["GET", "POST"]),
        Route(files.PATH, of_files.one, methods=["GET", "DELETE"]),
        Route(files.CONTENT_PATH, of_files.content, methods=["GET"]),
        Route(openai_batches.LIST_PATH, of_batches.all, methods=["GET", "POST"]),
        Route(openai_batches.PATH, of_batches.one, methods=["GET"]),
        Route(openai_batches.CANCEL_PATH, of_batches.cancel, methods=["POST"]),
    ]
