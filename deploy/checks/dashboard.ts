// A dashboard as JSON has it, out of Grafana's own types: each kind of panel with its own options, each query with
// those of its data source.
import type * as schema from "@grafana/schema";
import type { LokiDataQuery } from "@grafana/schema/dist/esm/raw/composable/loki/dataquery/x/LokiDataQuery_types.gen";
import type * as logs from "@grafana/schema/dist/esm/raw/composable/logs/panelcfg/x/LogsPanelCfg_types.gen";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as statetimeline from "@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen";
import type * as table from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type * as timeseries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

/** JSON has words where TypeScript has enums. */
type Plain<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;

/** Prometheus's queries have left @grafana/schema for the data source. */
interface PrometheusQuery extends schema.DataQuery {
  datasource: { type: "prometheus"; uid: "prometheus" };
  editorMode: "code" | "builder";
  expr: string;
  format?: "time_series" | "table" | "heatmap";
  instant: boolean;
  legendFormat?: string;
  range: boolean;
}

type LokiQuery = LokiDataQuery & { datasource: { type: "loki"; uid: "loki" } };

type PanelOf<Kind extends string, Options, Custom, Query> = Omit<
  schema.Panel,
  "type" | "options" | "fieldConfig" | "targets"
> & {
  type: Kind;
  title: string;
  description: string;
  options: Options;
  targets: Query[];
  fieldConfig?: Omit<schema.FieldConfigSource, "defaults"> & {
    defaults: Omit<schema.FieldConfig, "custom"> & { custom?: Partial<Custom> };
  };
};

type Panel =
  | PanelOf<"timeseries", timeseries.Options, timeseries.FieldConfig, PrometheusQuery | LokiQuery>
  | PanelOf<"stat", stat.Options, Record<string, never>, PrometheusQuery>
  | PanelOf<"table", table.Options, table.FieldConfig, PrometheusQuery>
  | PanelOf<"state-timeline", statetimeline.Options, statetimeline.FieldConfig, PrometheusQuery>
  | PanelOf<"logs", logs.Options, Record<string, never>, LokiQuery>;

/** What Prometheus's marks have besides. */
type Mark = schema.AnnotationQuery & {
  expr: string;
  step: string;
  titleFormat: string;
  useValueForTime: "on" | false;
};

export type Board = Plain<
  Omit<schema.Dashboard, "panels" | "annotations"> & {
    uid: string;
    title: string;
    panels: (Panel | schema.RowPanel)[];
    annotations: { list: Mark[] };
  }
>;
