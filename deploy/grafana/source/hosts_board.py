"""Hosts: machines, containers, and the programs that watch them."""

from grafana_foundation_sdk.models.dashboard import Dashboard
from panels import RANGE, Panel, graph, number, query, states, variable, workboard

HERE = 'host=~"$host"'
DISK = f'{HERE}, fstype!~"tmpfs|overlay|squashfs|ramfs"'
FREE = f"min by (host) (node_filesystem_avail_bytes{{{DISK}}} / node_filesystem_size_bytes{{{DISK}}})"
BUSY = f'1 - avg by (host) (rate(node_cpu_seconds_total{{{HERE}, mode="idle"}}[{RANGE}]))'
MEMORY = f"1 - node_memory_MemAvailable_bytes{{{HERE}}} / node_memory_MemTotal_bytes{{{HERE}}}"


def hosts() -> Dashboard:
    """Targets, machines, containers, monitoring itself."""
    return workboard(
        "marquee-hosts",
        "Marquee · Hosts",
        "The machines: processor, memory, disk, network, containers; and whether monitoring sees everything.",
        variables=[variable("host", "Host", "label_values(up, host)")],
        sections=[
            ("Now", _now()),
            ("Machines", _machines()),
            ("Containers", _containers()),
            ("Monitoring", _monitoring()),
        ],
    )


def _now() -> list[Panel]:
    return [
        number(
            "Targets down",
            "Targets that Prometheus does not reach.",
            query(f"count(up{{{HERE}}} == 0) or vector(0)"),
            limits=(1,),
            span=6,
        ),
        number(
            "Busiest processor", "Share of time at work, of the busiest host.", query(f"max({BUSY})"),
            unit="percentunit", limits=(0.8, 0.95), span=6,
        ),
        number(
            "Fullest memory", "Share in use, of the fullest host.", query(f"max({MEMORY})"),
            unit="percentunit", limits=(0.85, 0.95), span=6,
        ),
        number(
            "Fullest disk", "Share that is free, of the fullest file system.", query(f"min({FREE})"),
            unit="percentunit", limits=(0.1, 0.2), falling=True, span=6,
        ),
    ]  # fmt: skip


def _machines() -> list[Panel]:
    return [
        states(
            "Targets",
            "Whether Prometheus reaches what it watches.",
            query(f"min by (host, job) (up{{{HERE}}})", "{{host}} {{job}}"),
            good="up",
            bad="down",
            span=24,
        ),
        graph(
            "Processor",
            "Share of time at work.",
            query(BUSY, "{{host}}"),
            unit="percentunit",
            lines_at=(0.8, 0.95),
            highest=1,
        ),
        graph(
            "Load per processor",
            "Programs that run or wait, over 5 minutes; above 1 they wait.",
            query(
                f"max by (host) (node_load5{{{HERE}}}) / "
                f'count by (host) (node_cpu_seconds_total{{{HERE}, mode="idle"}})',
                "{{host}}",
            ),
            lines_at=(1, 2),
        ),
        graph(
            "Memory",
            "Share in use; what the system can give back is free.",
            query(f"max by (host) ({MEMORY})", "{{host}}"),
            unit="percentunit",
            lines_at=(0.85, 0.95),
            highest=1,
        ),
        graph(
            "Disk: free",
            "Share that is free, by file system.",
            query(
                f"min by (host, mountpoint) (node_filesystem_avail_bytes{{{DISK}}} / "
                f"node_filesystem_size_bytes{{{DISK}}})",
                "{{host}} {{mountpoint}}",
            ),
            unit="percentunit",
            highest=1,
            calcs=("lastNotNull", "min"),
        ),
        graph(
            "Disk: time at work",
            "Share of time that a disk was busy.",
            query(
                f"max by (host, device) (rate(node_disk_io_time_seconds_total{{{HERE}}}[{RANGE}]))",
                "{{host}} {{device}}",
            ),
            unit="percentunit",
            highest=1,
        ),
        graph(
            "Network",
            "Bytes a second received and sent.",
            query(
                f'sum by (host) (rate(node_network_receive_bytes_total{{{HERE}, device!="lo"}}[{RANGE}]))',
                "{{host}} in",
            ),
            query(
                f'sum by (host) (rate(node_network_transmit_bytes_total{{{HERE}, device!="lo"}}[{RANGE}]))',
                "{{host}} out",
            ),
            unit="Bps",
        ),
    ]


def _containers() -> list[Panel]:
    named = f'{HERE}, name!=""'
    return [
        graph(
            "Processor",
            "Processors busy, by container.",
            query(
                f"sum by (host, name) (rate(container_cpu_usage_seconds_total{{{named}}}[{RANGE}]))",
                "{{host}} {{name}}",
            ),
        ),
        graph(
            "Memory",
            "Working set, by container: what counts towards its limit.",
            query(
                f"max by (host, name) (container_memory_working_set_bytes{{{named}}})", "{{host}} {{name}}"
            ),
            unit="bytes",
        ),
        graph(
            "Restarts",
            "Starts of a container in an hour.",
            query(
                f"sum by (host, name) (changes(container_start_time_seconds{{{named}}}[1h]))",
                "{{host}} {{name}}",
            ),
            lines_at=(1, 3),
        ),
    ]


def _monitoring() -> list[Panel]:
    return [
        graph(
            "Time of a scrape",
            "By job; above 10 s it is given up.",
            query(f"max by (job) (scrape_duration_seconds{{{HERE}}})", "{{job}}"),
            unit="s",
        ),
        graph(
            "Series",
            "In the memory of Prometheus, and rules whose evaluation failed in an hour.",
            query("sum(prometheus_tsdb_head_series)", "series"),
            query("sum(increase(prometheus_rule_evaluation_failures_total[1h]))", "failed evaluations"),
        ),
        graph(
            "Notifications",
            "That Alertmanager sent in an hour, and those that did not get through.",
            query(
                "sum by (integration) (increase(alertmanager_notifications_total[1h]) > 0)", "{{integration}}"
            ),
            query(
                "sum by (integration) (increase(alertmanager_notifications_failed_total[1h]) > 0)",
                "{{integration}} failed",
            ),
        ),
    ]
