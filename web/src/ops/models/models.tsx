import { Boxes, GitCompareArrows } from "lucide-react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { ButtonLink } from "../../components/button";
import { EmptyState } from "../../components/states";
import { Badge, Tag } from "../parts/badge";
import { shortVersion, useOpsFormat } from "../parts/format";
import { Loaded } from "../parts/loaded";
import { OpsPage, Section } from "../parts/page";
import { Table } from "../parts/table";
import type { ModelVersion } from "../types";
import styles from "./models.module.css";
import { Promote } from "./promote";
import { useModels, versionOf } from "./queries";
import { RollBack } from "./roll-back";
import { useVerdict, verdictTone } from "./words";

export function Models() {
  const { t } = useTranslation("ops");
  const models = useModels();
  return (
    <OpsPage
      title={t("models.title")}
      lead={t("models.lead")}
      actions={
        <>
          <ButtonLink to="/ops/models/compare">
            <GitCompareArrows size={16} aria-hidden="true" />
            {t("models.compare")}
          </ButtonLink>
          <RollBack />
        </>
      }
    >
      <Section title={t("models.versions")}>
        <Loaded query={models} height="24rem">
          {(found) =>
            found.length === 0 ? (
              <EmptyState icon={<Boxes />} title={t("models.emptyTitle")} detail={t("models.emptyDetail")} />
            ) : (
              <Versions models={found} />
            )
          }
        </Loaded>
      </Section>
    </OpsPage>
  );
}

function Versions({ models }: { models: ModelVersion[] }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const verdict = useVerdict();
  return (
    <Table
      caption={t("models.versions")}
      rows={models}
      rowKey={(model) => model.bundle}
      columns={[
        {
          key: "model",
          label: t("models.model"),
          cell: (model) => (
            <Link to={`/ops/models/${encodeURIComponent(versionOf(model))}`} className={styles.name}>
              <strong>{model.model}</strong>
              <code>{shortVersion(model.version)}</code>
            </Link>
          ),
        },
        {
          key: "slots",
          label: t("models.slots"),
          cell: (model) => (
            <span className={styles.slots}>
              {model.slots.map((slot) =>
                slot === "champion" || slot === "predictor" ? (
                  <Badge key={slot} tone="good">
                    {t(`models.slot.${slot}`)}
                  </Badge>
                ) : (
                  <Tag key={slot}>{slot === "challenger" ? t("models.slot.challenger") : slot}</Tag>
                ),
              )}
            </span>
          ),
        },
        {
          key: "verdict",
          label: t("models.gate"),
          cell: (model) => <Badge tone={verdictTone(model.verdict)}>{verdict(model.verdict)}</Badge>,
        },
        {
          key: "ndcg",
          label: "NDCG@10",
          numeric: true,
          cell: (model) => format.figure(model.ndcg_at_10),
        },
        { key: "trained", label: t("models.trained"), cell: (model) => format.ago(model.age_seconds) },
        {
          key: "size",
          label: t("models.size"),
          numeric: true,
          cell: (model) => format.bytes(model.size_bytes),
        },
        {
          key: "act",
          label: t("models.act"),
          hideLabel: true,
          numeric: true,
          cell: (model) => <Promote model={model} models={models} small />,
        },
      ]}
    />
  );
}
