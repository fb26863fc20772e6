import { keepPreviousData, useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { ShieldCheck } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { body, opsApi } from "../../client/api";
import { Button } from "../../components/button";
import { EmptyState } from "../../components/states";
import { opsKeys } from "../keys";
import { Tag } from "../parts/badge";
import { useOpsFormat } from "../parts/format";
import { Loaded } from "../parts/loaded";
import { Section } from "../parts/page";
import { Table } from "../parts/table";
import type { Schemas } from "../types";
import styles from "./quarantine.module.css";

interface Filter {
  source?: string;
  reason?: string;
}

/** Rows that did not keep to their contract: why, how many, and each as it came. */
export function Quarantine() {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const [filter, setFilter] = useState<Filter>({});
  const summary = useQuery({
    queryKey: opsKeys.quarantineSummary,
    queryFn: ({ signal }) => body(opsApi().GET("/v1/quarantine/summary", { signal })),
  });
  return (
    <Section title={t("data.quarantine")} lead={t("data.quarantineLead")}>
      <Loaded query={summary} height="12rem">
        {({ total, by }) =>
          total === 0 ? (
            <EmptyState
              icon={<ShieldCheck />}
              title={t("data.noQuarantine")}
              detail={t("data.noQuarantineDetail")}
            />
          ) : (
            <>
              <Table
                caption={t("data.reasons")}
                rows={by}
                rowKey={(row) => `${row.source} ${row.reason}`}
                columns={[
                  {
                    key: "reason",
                    label: t("data.reason"),
                    cell: (row) => <span lang="en">{row.reason}</span>,
                  },
                  { key: "source", label: t("data.source"), cell: (row) => <Tag>{row.source}</Tag> },
                  {
                    key: "count",
                    label: t("data.rows"),
                    numeric: true,
                    cell: (row) => format.number(row.count),
                  },
                  {
                    key: "newest",
                    label: t("data.newestRow"),
                    cell: (row) => format.dateTime(row.newest_at),
                  },
                  {
                    key: "show",
                    label: t("data.show"),
                    hideLabel: true,
                    cell: (row) => <Show row={row} filter={filter} onChange={setFilter} />,
                  },
                ]}
              />
              <Rows key={JSON.stringify(filter)} filter={filter} onClear={() => setFilter({})} />
            </>
          )
        }
      </Loaded>
    </Section>
  );
}

function Show({
  row,
  filter,
  onChange,
}: {
  row: Schemas["ReasonCount"];
  filter: Filter;
  onChange: (filter: Filter) => void;
}) {
  const { t } = useTranslation("ops");
  const chosen = filter.source === row.source && filter.reason === row.reason;
  return (
    <Button
      size="s"
      aria-pressed={chosen}
      onClick={() => onChange(chosen ? {} : { source: row.source, reason: row.reason })}
    >
      {t(chosen ? "data.showAll" : "data.showOnly")}
      <span className="visually-hidden">: {row.reason}</span>
    </Button>
  );
}

function Rows({ filter, onClear }: { filter: Filter; onClear: () => void }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const rows = useInfiniteQuery({
    queryKey: opsKeys.quarantine(filter),
    queryFn: ({ pageParam, signal }) =>
      body(
        opsApi().GET("/v1/quarantine", {
          params: { query: { ...filter, limit: 20, ...(pageParam === null ? {} : { cursor: pageParam }) } },
          signal,
        }),
      ),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor,
    placeholderData: keepPreviousData,
  });
  return (
    <div className={styles.rows}>
      <h3>
        {t("data.rowsTitle")}
        {filter.reason ? (
          <Button size="s" variant="quiet" onClick={onClear}>
            {t("data.showAll")}
          </Button>
        ) : null}
      </h3>
      <Loaded query={rows}>
        {({ pages }) => (
          <ul role="list">
            {pages
              .flatMap((page) => page.rows)
              .map((row) => (
                <li key={row.id}>
                  <details>
                    <summary>
                      <span lang="en">{row.reason}</span>
                      <span className={styles.when}>
                        {row.source} · {format.dateTime(row.at)}
                      </span>
                    </summary>
                    <pre>{JSON.stringify(row.row, null, 2)}</pre>
                    {row.run_id ? <Link to={`/ops/runs/${row.run_id}`}>{t("data.run")}</Link> : null}
                  </details>
                </li>
              ))}
          </ul>
        )}
      </Loaded>
      {rows.hasNextPage ? (
        <Button busy={rows.isFetchingNextPage} onClick={() => void rows.fetchNextPage()}>
          {t("more")}
        </Button>
      ) : null}
    </div>
  );
}
