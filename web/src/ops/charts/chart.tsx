import { lazy, Suspense, useId, useState } from "react";
import { useTranslation } from "react-i18next";
import { Button } from "../../components/button";
import { Skeleton } from "../../components/skeleton";
import { Table } from "../parts/table";
import styles from "./chart.module.css";
import { colourOf, hasBands } from "./series";
import type { SeriesChartProps } from "./series-chart";

// The chart library is a chunk of its own.
const SeriesChart = lazy(() => import("./series-chart"));

interface Props extends SeriesChartProps {
  title: string;
  /** What the figures say in a sentence. */
  summary?: string;
  /** What stands along the bottom. */
  labelX: string;
  height?: string;
  compact?: boolean;
}

/** A chart with its title, its legend, and the same figures as a table. */
export function Chart({ title, summary, labelX, height = "13rem", compact = false, ...chart }: Props) {
  const { t } = useTranslation("ops");
  const [asTable, setAsTable] = useState(false);
  const titleId = useId();
  const { series, firstColour = 0 } = chart;
  const empty = series.every(({ points }) => points.every(({ y }) => y === null));
  return (
    <figure className={styles.chart} aria-labelledby={titleId} data-compact={compact}>
      <figcaption className={styles.head}>
        <span id={titleId} className={styles.title}>
          {title}
        </span>
        {empty ? null : (
          <Button
            variant="quiet"
            size="s"
            className={styles.switch}
            aria-pressed={asTable}
            onClick={() => setAsTable(!asTable)}
          >
            {t("chart.asTable")}
            <span className="visually-hidden">: {title}</span>
          </Button>
        )}
      </figcaption>
      {summary ? <p className={styles.summary}>{summary}</p> : null}
      <div className={styles.body} style={{ blockSize: height }}>
        {empty ? <p className={styles.empty}>{t("chart.empty")}</p> : null}
        {!empty && asTable ? <Figures {...chart} title={title} labelX={labelX} /> : null}
        {!empty && !asTable ? (
          <div className={styles.drawing} role="img" aria-label={summary ? `${title}. ${summary}` : title}>
            <Suspense fallback={<Skeleton height="100%" radius="var(--r-2)" />}>
              <SeriesChart {...chart} />
            </Suspense>
          </div>
        ) : null}
      </div>
      {series.length > 1 ? (
        <ul role="list" className={styles.legend}>
          {series.map(({ id, name }, at) => (
            <li key={id}>
              <span
                aria-hidden="true"
                className={styles.mark}
                data-dashed={at % 2 === 1}
                style={{ borderColor: colourOf(firstColour + at) }}
              />
              {name}
            </li>
          ))}
        </ul>
      ) : null}
    </figure>
  );
}

function Figures({
  title,
  labelX,
  series,
  formatX,
  formatY,
}: SeriesChartProps & { title: string; labelX: string }) {
  const { t } = useTranslation("ops");
  const bands = hasBands(series);
  const rows = series.flatMap(({ id, name, points }) => points.map((point) => ({ ...point, id, name })));
  return (
    <div className={styles.figures}>
      <Table
        caption={title}
        rowKey={(row) => `${row.id} ${row.x}`}
        rows={rows}
        columns={[
          { key: "x", label: labelX, cell: (row) => formatX(row.x) },
          ...(series.length > 1
            ? [{ key: "name", label: t("chart.series"), cell: (row: { name: string }) => row.name }]
            : []),
          {
            key: "y",
            label: t("chart.value"),
            numeric: true,
            cell: (row) => (row.y === null ? t("none") : formatY(row.y)),
          },
          ...(bands
            ? [
                {
                  key: "band",
                  label: t("chart.interval"),
                  numeric: true,
                  cell: ({ low, high }: (typeof rows)[number]) =>
                    typeof low === "number" && typeof high === "number"
                      ? `${formatY(low)} … ${formatY(high)}`
                      : t("none"),
                },
              ]
            : []),
        ]}
      />
    </div>
  );
}
