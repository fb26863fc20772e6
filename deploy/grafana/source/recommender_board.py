"""Recommender quality: what becomes of the answers, whom they reach, and whether the world has changed."""

from grafana_foundation_sdk.models.dashboard import Dashboard
from panels import Panel, ages, graph, number, query, states, variable, workboard


def recommender() -> Dashboard:
    """Outcomes, what is shown, drift."""
    return workboard(
        "marquee-recommender",
        "Marquee · Recommender quality",
        "What users do with the answers, what they are shown, and whether the data have drifted. "
        "Figures are those of `marquee monitor run`.",
        variables=[
            variable("metric", "Outcome", "label_values(marquee_quality_outcome_ratio, metric)"),
            variable("arm", "Arm", "label_values(marquee_quality_outcome_ratio, arm)"),
            variable("feature", "Feature", "label_values(marquee_drift_psi_ratio, feature)"),
        ],
        time_from="now-7d",
        sections=[
            ("Now", _now()),
            ("Outcomes", _outcomes()),
            ("What is shown", _shown()),
            ("Drift", _drift()),
        ],
    )


def _now() -> list[Panel]:
    return [
        number(
            "Open drift alarms",
            "Kinds of drift whose alarm is open.",
            query("sum(max by (kind) (marquee_drift_alarm_info))"),
            limits=(1,),
        ),
        number(
            "Monitored",
            "Since monitoring last ran.",
            query(ages("marquee_monitor_computed_timestamp_seconds")),
            unit="s",
            limits=(7_200, 14_400),
        ),
        number("Monitoring took", "Time of that run.", query("max(marquee_monitor_run_seconds)"), unit="s"),
        number("Answers", "Answers behind the figures.", query("max(marquee_quality_answers)")),
        number(
            "Serving–training skew",
            "Share of the places of replayed answers whose item is another than the one shown.",
            query("max(marquee_quality_skew_ratio)"),
            unit="percentunit",
            limits=(0.01, 0.05),
        ),
        number(
            "Champion's age",
            "Since the champion was deployed.",
            query('time() - max(marquee_state_deployed_timestamp_seconds{slot="champion"} > 0)'),
            unit="s",
            limits=(14 * 86_400, 30 * 86_400),
        ),
    ]


def _outcomes() -> list[Panel]:
    return [
        graph(
            "Outcomes by arm",
            "What became of the answers of a day.",
            query(
                'max by (metric, arm) (marquee_quality_outcome_ratio{metric=~"$metric", arm=~"$arm"})',
                "{{metric}} · {{arm}}",
            ),
            unit="percentunit",
            span=12,
        ),
        graph(
            "Label delay",
            "Time from an answer to what its user did with it: so long outcomes are incomplete.",
            query("max by (percentile) (marquee_quality_label_delay_seconds)", "{{percentile}}"),
            unit="s",
            span=12,
        ),
    ]


def _shown() -> list[Panel]:
    return [
        graph(
            "Coverage and popularity",
            "Share of the catalogue that was shown to anybody, and share of the places given to its most "
            "popular tenth.",
            query("max(marquee_quality_coverage_ratio)", "coverage"),
            query("max(marquee_quality_popularity_share_ratio)", "most popular tenth"),
            unit="percentunit",
            highest=1,
        ),
        graph(
            "Gini",
            "How unevenly items are shown: 0 all alike, 1 only one.",
            query("max(marquee_quality_gini_ratio)", "Gini"),
            highest=1,
        ),
        graph(
            "Novelty",
            "Mean self-information of the items shown, in bits.",
            query("max(marquee_quality_novelty_bits)", "bits"),
        ),
        graph(
            "Cold users and lower tiers",
            "Share of answers to users without a history, and of answers that a lower tier had to give.",
            query("max(marquee_quality_cold_users_ratio)", "cold users"),
            query("max(marquee_quality_fallback_ratio)", "lower tiers"),
            unit="percentunit",
            span=12,
            highest=1,
        ),
        graph(
            "Models in use",
            "Since each slot was filled; a fall to zero is a deployment.",
            query(ages("marquee_state_deployed_timestamp_seconds", by="slot"), "{{slot}}"),
            unit="s",
            span=12,
        ),
    ]


def _drift() -> list[Panel]:
    return [
        states(
            "Alarms",
            "Open alarms by kind. Each has its page in the runbooks.",
            query("1 - max by (kind) (marquee_drift_alarm_info)", "{{kind}}"),
            good="quiet",
            bad="alarm",
            span=8,
        ),
        graph(
            "Population stability index",
            "The newest window of a feature against its reference: from 0.25 on it is another world.",
            query('max by (feature) (marquee_drift_psi_ratio{feature=~"$feature"})', "{{feature}}"),
            lines_at=(0.1, 0.25),
        ),
        graph(
            "Probability by chance",
            "Of such a difference. Small values matter only together with a large index and enough traffic.",
            query('max by (feature) (marquee_drift_p_value_ratio{feature=~"$feature"})', "{{feature}}"),
            unit="percentunit",
            highest=1,
        ),
    ]
