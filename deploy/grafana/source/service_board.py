"""Service: is it answering, how fast, with what, and does what users do reach the database."""

from grafana_foundation_sdk.models.dashboard import Dashboard
from panels import RANGE, Panel, graph, mean, number, quantiles, query, ratio, states, variable, workboard

HERE = '{host=~"$host"}'
ROUTES = '{host=~"$host", route=~"$route"}'
PROCESSES = '{job=~"marquee-.*", host=~"$host"}'
REQUESTS = f"marquee_http_requests_total{ROUTES}"
FAILED = 'marquee_http_requests_total{host=~"$host", route=~"$route", status=~"5.."}'
RATE = f"sum(rate({REQUESTS}[{RANGE}]))"
ANSWERS = f"sum(rate(marquee_recommendations_answers_total{HERE}[{RANGE}]))"
LOOKUPS = f"sum(rate(marquee_users_cache_lookups_total{HERE}[{RANGE}]))"
HITS = f'sum(rate(marquee_users_cache_lookups_total{{host=~"$host", result="hit"}}[{RANGE}]))'


def service() -> Dashboard:
    """Requests, answers, models, feedback, database, processes."""
    return workboard(
        "marquee-service",
        "Marquee · Service",
        "Whether the API answers, how fast and with what, and whether what users do is kept.",
        variables=[
            variable("host", "Host", "label_values(marquee_http_requests_total, host)"),
            variable("route", "Route", "label_values(marquee_http_requests_total, route)"),
        ],
        sections=[
            ("Now", _now()),
            ("Requests", _requests()),
            ("Answers and models", _answers()),
            ("Feedback", _feedback()),
            ("Database and processes", _database()),
        ],
    )


def _now() -> list[Panel]:
    return [
        number("Requests", "Requests answered a second.", query(RATE), unit="reqps", span=3),
        number(
            "Errors",
            "Share of requests answered with a status from 500 on. The objective allows 0.1 %.",
            query(ratio(f"sum(rate({FAILED}[{RANGE}]))", RATE)),
            unit="percentunit",
            span=3,
            limits=(0.001, 0.01),
        ),
        number(
            "Slowest 1 %",
            "99th percentile of the time of a request, over the routes chosen.",
            *quantiles("marquee_http_request_seconds", ROUTES, of=(0.99,)),
            unit="s",
            span=3,
            limits=(0.25, 1),
        ),
        number(
            "Lower tiers",
            "Share of lists that a lower tier had to give, because of an error or the deadline.",
            query(ratio(f"sum(rate(marquee_recommendations_fallbacks_total{HERE}[{RANGE}]))", ANSWERS)),
            unit="percentunit",
            span=3,
            limits=(0.01, 0.1),
        ),
        number(
            "API targets up",
            "Share of the API's targets that Prometheus reaches.",
            query('avg(up{job="marquee-api"})'),
            unit="percentunit",
            span=3,
            limits=(0.5, 1),
            falling=True,
        ),
        number(
            "Alerts",
            "Alerts that fire now.",
            query('count(ALERTS{alertstate="firing"}) or vector(0)'),
            span=3,
            limits=(1,),
        ),
        number(
            "Serving",
            "The bundle in each slot.",
            query(f"max by (slot, bundle) (marquee_models_bundle_info{HERE}) == 1", "{{slot}}: {{bundle}}"),
            span=6,
            names=True,
        ),
    ]


def _requests() -> list[Panel]:
    return [
        graph(
            "Requests by status",
            "Requests a second by the class of their status. 499: the client left before it had asked.",
            query(
                f"sum by (status) (label_replace(rate(marquee_http_requests_total{ROUTES}[{RANGE}]), "
                '"status", "${1}xx", "status", "(.).."))'
            ),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Duration",
            "From the first look at a request to the end of its answer.",
            *quantiles("marquee_http_request_seconds", ROUTES),
            unit="s",
            lines_at=(0.25, 1),
        ),
        graph(
            "Slowest 5 % by tier",
            "95th percentile by the tier of the answer; without one: what is no list.",
            *quantiles("marquee_http_request_seconds", ROUTES, of=(0.95,), by="tier"),
            unit="s",
        ),
        graph(
            "Errors by route",
            "Share of each route's requests with a status from 500 on; errors that nobody foresaw.",
            query(f"sum by (route) (rate({FAILED}[{RANGE}])) / sum by (route) (rate({REQUESTS}[{RANGE}]))"),
            query(f"sum(rate(marquee_http_unhandled_errors_total{ROUTES}[{RANGE}])) / {RATE}", "unforeseen"),
            unit="percentunit",
            lines_at=(0.001, 0.01),
        ),
        graph(
            "Refused",
            "Requests a second that were turned away, and why.",
            query(f"sum(rate(marquee_http_shed_total{HERE}[{RANGE}]))", "overload"),
            query(
                f"sum by (scope) (rate(marquee_http_rate_limited_total{HERE}[{RANGE}]))", "rate of {{scope}}"
            ),
            query(
                f"sum by (status) (rate(marquee_access_refused_total{HERE}[{RANGE}]))", "access ({{status}})"
            ),
            query(f"sum by (phase) (rate(marquee_http_slow_clients_total{HERE}[{RANGE}]))", "slow {{phase}}"),
            unit="reqps",
        ),
        graph(
            "Load",
            "Requests under way, those of them that wait for a computation or a transaction, and how late "
            "the event loop is.",
            query(f"sum(marquee_http_requests_in_progress{HERE})", "under way"),
            query(f"sum by (stage) (marquee_engine_waiting_requests{HERE})", "wait: {{stage}}"),
            query(f"sum(marquee_events_waiting_requests{HERE})", "wait: events"),
            query(f"max(marquee_http_loop_lag_seconds{HERE})", "loop lag"),
            right={"loop lag": "s"},
        ),
    ]


def _answers() -> list[Panel]:
    return [
        graph(
            "Lists by tier",
            "Lists a second by surface and by the tier that made them.",
            query(
                f"sum by (surface, tier) (rate(marquee_recommendations_answers_total{HERE}[{RANGE}]))",
                "{{surface}} · {{tier}}",
            ),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Lower tiers by reason",
            "Lists a second that a lower tier had to give.",
            query(
                f"sum by (reason) (rate(marquee_recommendations_fallbacks_total{HERE}[{RANGE}]))",
                "{{reason}}",
            ),
            unit="reqps",
        ),
        graph(
            "Requests computed together",
            "Mean number of requests that one computation answered, by stage.",
            query(mean("marquee_engine_batch_requests", HERE, by="stage"), "{{stage}}"),
        ),
        graph(
            "Time of a computation",
            "95th percentile by stage.",
            *quantiles("marquee_engine_batch_seconds", HERE, of=(0.95,), by="stage"),
            unit="s",
        ),
        graph(
            "Swaps",
            "Bundles put into a slot or refused in an hour; the slowest 5 % from the news to answering.",
            query(
                f"sum by (slot, result) (increase(marquee_models_swaps_total{HERE}[1h]))",
                "{{slot}} {{result}}",
            ),
            *quantiles("marquee_models_swap_seconds", HERE, of=(0.95,), window="1h", legend="time"),
            right={"time": "s"},
        ),
        graph(
            "Age of models",
            "Since the bundle in a slot was deployed, as the API sees it.",
            query(
                f"time() - max by (slot) (marquee_models_bundle_created_timestamp_seconds{HERE} > 0)",
                "{{slot}}",
            ),
            unit="s",
        ),
        graph(
            "Shadow: agreement",
            "Mean share of the items shown that the shadow would have shown too; answers of it that failed.",
            query(mean("marquee_shadow_agreement_ratio", HERE), "agreement"),
            query(f"sum(rate(marquee_shadow_errors_total{HERE}[{RANGE}]))", "errors"),
            unit="percentunit",
            right={"errors": "ops"},
            span=12,
        ),
        graph(
            "Shadow: time",
            "Time of a shadow's answer; nobody waits for it.",
            *quantiles("marquee_shadow_answer_seconds", HERE),
            unit="s",
            span=12,
        ),
    ]


def _feedback() -> list[Panel]:
    return [
        graph(
            "Events",
            "Events a second by kind and by what became of them.",
            query(
                f"sum by (event, result) (rate(marquee_events_received_total{HERE}[{RANGE}]))",
                "{{event}} · {{result}}",
            ),
            unit="eps",
            stacked=True,
        ),
        graph(
            "Time to commit",
            "Slowest 1 %: the wait of events for their transaction, and the transaction itself.",
            *quantiles("marquee_events_commit_wait_seconds", HERE, of=(0.99,), legend="wait"),
            *quantiles("marquee_events_commit_seconds", HERE, of=(0.99,), legend="transaction"),
            unit="s",
        ),
        graph(
            "Events in a transaction",
            "Mean; it grows with the load.",
            query(mean("marquee_events_commit_events", HERE), "events"),
        ),
        graph(
            "Journal",
            "Rows a second written behind answers; rows that wait. Rows given up are lost: none should be.",
            query(f"sum(marquee_journal_waiting_rows{HERE})", "waiting"),
            query(f"sum by (table) (rate(marquee_journal_rows_total{HERE}[{RANGE}]))", "{{table}}"),
            query(
                f"sum by (table) (rate(marquee_journal_dropped_rows_total{HERE}[{RANGE}]))",
                "given up: {{table}}",
            ),
        ),
        graph(
            "Journal: time of a flush",
            "Percentiles.",
            *quantiles("marquee_journal_flush_seconds", HERE),
            unit="s",
        ),
        graph(
            "Changes heard of",
            "Notifications a second by channel, times that some may have been missed, and the slowest 1 % of "
            "waits to be sure of having heard of every change.",
            query(
                f"sum by (channel) (rate(marquee_listener_notifications_total{HERE}[{RANGE}]))", "{{channel}}"
            ),
            query(f"sum(rate(marquee_listener_gaps_total{HERE}[{RANGE}]))", "gaps"),
            *quantiles("marquee_listener_barrier_seconds", HERE, of=(0.99,), legend="wait"),
            unit="ops",
            right={"wait": "s"},
        ),
    ]


def _database() -> list[Panel]:
    return [
        states(
            "Database and listener",
            "Whether every process of the API reaches the database, and hears of changes at once.",
            query(f"min by (host) (marquee_database_up{HERE})", "database {{host}}"),
            query(f"min by (host) (marquee_listener_connected{HERE})", "listener {{host}}"),
            good="connected",
            bad="away",
            span=8,
        ),
        graph(
            "Connections in use",
            "Of the pools of all processes.",
            query(f"sum by (host) (marquee_database_pool_connections{HERE})", "{{host}}"),
        ),
        graph(
            "Cache of users",
            "Share of look-ups that found the user in memory.",
            query(f"{HITS} / {LOOKUPS}", "hits"),
            unit="percentunit",
            highest=1,
        ),
        graph(
            "Memory of the cache",
            "What is known of users, in all processes.",
            query(f"sum(marquee_users_cache_bytes{HERE})", "cache"),
            unit="bytes",
        ),
        graph(
            "Reading users",
            "Time to read users from the database.",
            *quantiles("marquee_users_read_seconds", HERE),
            unit="s",
        ),
        graph(
            "Memory and processors",
            "Of the processes that say so of themselves.",
            query(f"sum by (job) (process_resident_memory_bytes{PROCESSES})", "{{job}}"),
            query(f"sum(rate(process_cpu_seconds_total{PROCESSES}[{RANGE}]))", "processors"),
            unit="bytes",
            right={"processors": "short"},
        ),
    ]
