"""Settings of what answers, and of what may."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field
from pydantic_settings import NoDecode

from marquee.config.values import Names, Url, UrlOrPath, split

__all__ = ["ApiSettings", "CanarySettings", "GateSettings", "SiteSettings"]


class ApiSettings(BaseModel):
    """The HTTP API."""

    wait_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        900, description="How long `POST /run/*` waits for its run before it answers 202 with the run id."
    )
    database_seconds: Annotated[float, Field(gt=0, le=60)] = Field(
        2, description="How long an answer waits for the database before it is given without."
    )
    shutdown_seconds: Annotated[int, Field(ge=1, le=600)] = Field(
        10, description="How long requests under way may take to finish when the API is stopped."
    )
    processes: Annotated[int, Field(ge=1, le=64)] = Field(1, description="API processes on one port.")
    ops_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="Port of `/metrics`, `/livez` and `/readyz` alone. Unset: they are on the API's."
    )
    deadline_ms: Annotated[float, Field(gt=0, le=10_000)] = Field(
        50, description="How long a personal list may take before the precomputed or popular one is given."
    )
    user_cache_mib: Annotated[float, Field(gt=0)] = Field(
        64, description="Memory for what is known of recent users, per process."
    )
    group_commit_ms: Annotated[float, Field(ge=0, le=100)] = Field(
        5, description="How long an event waits at most for others to share its transaction."
    )
    exploration: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0, description="Expected share of the places of a list given to items with few interactions."
    )
    cors_origins: Names = Field(
        (),
        description="Other sites whose pages may call the API, such as `https://example.org`, "
        "separated by commas.",
    )
    trusted_proxies: Names = Field(
        (),
        description="Addresses or networks of proxies whose `X-Forwarded-For`, `-Proto` and `-Prefix` are "
        "believed, separated by commas.",
    )
    rate_per_key: str = Field("1000/second", description="Requests that one API key or visitor may make.")
    rate_per_address: str = Field("200/second", description="Requests of one address without a key.")
    max_concurrent: Annotated[int, Field(ge=1)] = Field(
        256, description="Requests under way in one process; more are refused with 503 at once."
    )
    slow_client_seconds: Annotated[float, Field(gt=0)] = Field(
        10, description="How long a client may take to send its request."
    )
    history_days_ahead: Annotated[float, Field(ge=0)] = Field(
        0.01, description="How far in the future an event may lie (clocks differ), in days."
    )


class SiteSettings(BaseModel):
    """The site, served by the API."""

    folder: Path | None = Field(
        None, description="Folder of the built site. Unset: the one that ships with Marquee."
    )
    api: UrlOrPath | None = Field(
        None,
        description="Where its pages find the API: a URL, or a path on their own host, such as `/api`. "
        "Unset: where they come from themselves, below the prefix that a trusted proxy has named.",
    )
    languages: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[a-z]{2}(-[A-Z]{2})?$")], ...],
        NoDecode,
        BeforeValidator(split),
        Field(min_length=1),
    ] = Field(("en", "ko"), description="Languages it offers, separated by commas.")
    images: Url = Field("https://image.tmdb.org/t/p", description="Where posters come from.")
    mlflow_url: Url | None = Field(None, description="MLflow, linked for operators.")
    airflow_url: Url | None = Field(None, description="Airflow, linked for operators.")
    grafana_url: Url | None = Field(None, description="Grafana, linked for operators.")
    alertmanager_url: Url | None = Field(
        None, description="Alertmanager, which the API asks for open alerts. Unset: those of drift are shown."
    )


class GateSettings(BaseModel):
    """What a challenger must show before it becomes champion."""

    margin: Annotated[float, Field(ge=0, le=1)] = Field(
        0.02, description="Share of the champion's NDCG@10 that may be lost for a better second metric."
    )
    second_metric: Literal["coverage_at_10", "recall_at_20", "novelty", "diversity"] = Field(
        "coverage_at_10", description="The metric that must be better where NDCG@10 is only not worse."
    )
    slice_drop: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="Share of the champion's NDCG@10 that a slice may lose."
    )
    max_bundle_mib: Annotated[float, Field(gt=0)] = Field(2048, description="Largest bundle.")
    max_latency_ms: Annotated[float, Field(gt=0)] = Field(
        50, description="Slowest single request (95th percentile of 100 replayed ones)."
    )
    min_accuracy: Annotated[float, Field(ge=0, le=1)] = Field(
        0.9, description="Least test accuracy of a predictor."
    )
    max_cross_entropy: Annotated[float, Field(gt=0)] = Field(
        0.5, description="Greatest test cross-entropy of a predictor, in nats."
    )


class CanarySettings(BaseModel):
    """When a canary is rolled back by itself."""

    max_error_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.02, description="Share of its answers that another model had to give."
    )
    max_latency_ms: Annotated[float, Field(gt=0)] = Field(100, description="95th percentile of its answers.")
    hit_rate_drop: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="Share of the champion's online hit rate that it may lose."
    )
    min_answers: Annotated[int, Field(ge=1)] = Field(
        100, description="Answers of each arm before anything is decided."
    )
    max_hours: Annotated[float, Field(gt=0)] = Field(
        72, description="A canary that cannot be told apart for so long is rolled back."
    )
