import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { body, opsApi } from "../../client/api";
import { Chart } from "../charts/chart";
import { opsKeys } from "../keys";
import { Badge, Notice } from "../parts/badge";
import { Bars, Figure, Figures } from "../parts/facts";
import { shortVersion, useOpsFormat } from "../parts/format";
import { Loaded } from "../parts/loaded";
import { Columns, OpsPage, Section } from "../parts/page";
import type { Schemas } from "../types";
import { OpenAlerts } from "./open-alerts";
import styles from "./overview.module.css";

const REFRESH_MS = 5_000;
const TONES = { ok: "good", degraded: "warn", down: "bad" } as const;

export function Overview() {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const overview = useQuery({
    queryKey: opsKeys.overview,
    queryFn: ({ signal }) => body(opsApi().GET("/v1/overview", { signal })),
    refetchInterval: REFRESH_MS,
    staleTime: 0,
  });
  const at = overview.dataUpdatedAt ? format.time(overview.dataUpdatedAt) : null;
  return (
    <OpsPage
      title={t("overview.title")}
      lead={at ? t("overview.refreshed", { at }) : t("loading")}
      actions={
        overview.data ? (
          <Badge tone={TONES[overview.data.status]}>{t(`overview.status.${overview.data.status}`)}</Badge>
        ) : null
      }
    >
      <OpenAlerts />
      <Loaded query={overview} height="40rem">
        {(data) => <Now data={data} />}
      </Loaded>
    </OpsPage>
  );
}

function Now({ data }: { data: Schemas["Overview"] }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const requests = sum(data.requests_per_minute);
  const window = t("overview.window", { minutes: data.window_minutes });
  return (
    <>
      {data.lacks.length > 0 ? (
        <Notice tone="warn" title={t("overview.lacks")}>
          <p>{data.lacks.join(", ")}</p>
        </Notice>
      ) : null}
      <ul role="list" className={styles.parts} aria-label={t("overview.parts")}>
        {data.parts.map((part) => (
          <li key={part.name}>
            <div>
              <strong>{t(`overview.part.${part.name}`)}</strong>
              <Badge tone={TONES[part.status]}>{t(`overview.status.${part.status}`)}</Badge>
            </div>
            <p lang="en">{part.detail}</p>
          </li>
        ))}
      </ul>
      <Figures>
        <Served label={t("overview.champion")} served={data.champion} />
        <Served label={t("overview.predictor")} served={data.predictor} />
        <Figure label={t("overview.p50")} value={format.milliseconds(data.latency_ms.p50)} note={window} />
        <Figure
          label={t("overview.p95")}
          value={format.milliseconds(data.latency_ms.p95)}
          note={t("overview.p99", { value: format.milliseconds(data.latency_ms.p99) })}
        />
        <Figure
          label={t("overview.requests")}
          value={format.number(requests)}
          note={data.is_sampled ? t("overview.sampled") : window}
        />
        <Figure
          label={t("overview.errors")}
          value={format.percent(data.errors.share, 2)}
          note={t("overview.errorCount", { n: format.number(data.errors.count) })}
        />
      </Figures>
      <Columns>
        <PerMinute title={t("overview.requestsPerMinute")} minutes={data.requests_per_minute} colour={1} />
        <PerMinute title={t("overview.eventsPerMinute")} minutes={data.events_per_minute} colour={2} />
      </Columns>
      <Section title={t("overview.tiers")} lead={t("overview.tiersLead")}>
        {data.tiers.length === 0 ? (
          <p className={styles.quiet}>{t("overview.quiet")}</p>
        ) : (
          <Bars
            bars={data.tiers.map((tier) => ({
              name: tierName(tier.tier),
              value: tier.share,
              text: `${format.percent(tier.share, 1)} · ${format.number(tier.count)}`,
            }))}
          />
        )}
      </Section>
    </>
  );

  function tierName(tier: string): string {
    if (tier === "personal" || tier === "session" || tier === "popular") return t(`overview.tier.${tier}`);
    return tier;
  }
}

function Served({ label, served }: { label: string; served: Schemas["ServedModel"] | null }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  if (served === null) return <Figure label={label} value={t("none")} note={t("overview.nothingServes")} />;
  const version = versionOf(served.bundle);
  return (
    <Figure
      label={label}
      value={<Link to={`/ops/models/${encodeURIComponent(version)}`}>{served.model}</Link>}
      note={`${shortVersion(version)} · ${t("overview.since", { age: format.duration(served.age_seconds) })}`}
    />
  );
}

function PerMinute({
  title,
  minutes,
  colour,
}: {
  title: string;
  minutes: readonly Schemas["Minute"][];
  colour: number;
}) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const most = Math.max(0, ...minutes.map(({ count }) => count));
  return (
    <div className={styles.card}>
      <Chart
        title={title}
        summary={t("overview.perMinute", { total: format.number(sum(minutes)), most: format.number(most) })}
        labelX={t("overview.minute")}
        kind="bars"
        firstColour={colour - 1}
        series={[
          {
            id: "count",
            name: title,
            points: minutes.map(({ at, count }) => ({ x: Date.parse(at), y: count })),
          },
        ]}
        formatX={format.clock}
        formatY={(value) => format.number(value)}
      />
    </div>
  );
}

function sum(minutes: readonly Schemas["Minute"][]): number {
  return minutes.reduce((total, { count }) => total + count, 0);
}

/** Of `ease/2026…` as well as of `bundles/ease/2026…/….manifest.json`. */
function versionOf(bundle: string): string {
  const parts = bundle.split("/");
  return (parts[0] === "bundles" ? parts[2] : parts[1]) ?? bundle;
}
