import { FlaskConical } from "lucide-react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { EmptyState } from "../../components/states";
import { Badge, Tag } from "../parts/badge";
import { useOpsFormat } from "../parts/format";
import { Loaded } from "../parts/loaded";
import { OpsPage, Section } from "../parts/page";
import { Table } from "../parts/table";
import { useExperiments, type Summary } from "./queries";
import { StartExperiment } from "./start-experiment";
import { armNamer, STATUS_TONES } from "./words";

export function Experiments() {
  const { t } = useTranslation("ops");
  const experiments = useExperiments();
  const running = experiments.data?.some((one) => one.status === "running") ?? false;
  return (
    <OpsPage
      title={t("experiments.title")}
      lead={running ? t("experiments.oneRuns") : t("experiments.lead")}
      actions={<StartExperiment disabled={running} />}
    >
      <Section title={t("experiments.newest")}>
        <Loaded query={experiments} height="20rem">
          {(found) =>
            found.length === 0 ? (
              <EmptyState
                icon={<FlaskConical />}
                title={t("experiments.emptyTitle")}
                detail={t("experiments.emptyDetail")}
              />
            ) : (
              <List experiments={found} />
            )
          }
        </Loaded>
      </Section>
    </OpsPage>
  );
}

function List({ experiments }: { experiments: Summary[] }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  return (
    <Table
      caption={t("experiments.newest")}
      rows={experiments}
      rowKey={(one) => one.experiment_id}
      columns={[
        {
          key: "name",
          label: t("experiments.name"),
          cell: (one) => <Link to={`/ops/experiments/${one.experiment_id}`}>{one.name}</Link>,
        },
        {
          key: "kind",
          label: t("experiments.kindOne"),
          cell: (one) => <Tag>{t(`experiments.kind.${one.kind}`)}</Tag>,
        },
        {
          key: "status",
          label: t("experiments.state"),
          cell: (one) => (
            <Badge tone={STATUS_TONES[one.status]}>{t(`experiments.status.${one.status}`)}</Badge>
          ),
        },
        {
          key: "arms",
          label: t("experiments.arms"),
          cell: (one) =>
            one.arms.map((arm) => `${armNamer(one.arms)(arm.name)} ${format.percent(arm.share)}`).join(" · "),
        },
        { key: "started", label: t("experiments.started"), cell: (one) => format.dateTime(one.started_at) },
        {
          key: "ended",
          label: t("experiments.ended"),
          cell: (one) => (one.ended_at ? format.dateTime(one.ended_at) : t("none")),
        },
      ]}
    />
  );
}
