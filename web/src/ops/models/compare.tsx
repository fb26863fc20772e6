import { GitCompareArrows } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { useSearchParams } from "react-router";
import { Button } from "../../components/button";
import { EmptyState } from "../../components/states";
import { Field, Select } from "../parts/field";
import { shortVersion } from "../parts/format";
import { Loaded } from "../parts/loaded";
import { OpsPage, Section } from "../parts/page";
import type { ModelVersion } from "../types";
import styles from "./compare.module.css";
import { Preview } from "./preview";
import { holding, useModels, usePreview, versionOf } from "./queries";

const USER = /^\d{1,16}$/;

/** Two versions side by side on the same user. The choice is in the address, so that it can be shared. */
export function Compare() {
  const { t } = useTranslation("ops");
  const models = useModels();
  return (
    <OpsPage
      title={t("models.compareTitle")}
      lead={t("models.compareLead")}
      up={{ to: "/ops/models", label: t("models.title") }}
    >
      <Loaded query={models} height="30rem">
        {(found) =>
          found.length === 0 ? (
            <EmptyState
              icon={<GitCompareArrows />}
              title={t("models.emptyTitle")}
              detail={t("models.emptyDetail")}
            />
          ) : (
            <Sides models={found.filter((model) => model.version !== null)} />
          )
        }
      </Loaded>
    </OpsPage>
  );
}

function Sides({ models }: { models: ModelVersion[] }) {
  const { t } = useTranslation("ops");
  const [params, setParams] = useSearchParams();
  const champion = holding(models, "champion") ?? models[0];
  const other = models.find((model) => model !== champion) ?? champion;
  const first = params.get("a") ?? (champion ? versionOf(champion) : "");
  const second =
    params.get("b") ??
    (other && versionOf(other) !== first ? versionOf(other) : champion ? versionOf(champion) : "");
  const user = params.get("user") ?? "1";
  const [typed, setTyped] = useState(user);
  const userId = USER.test(user) ? Number(user) : null;
  const put = (name: string, value: string) =>
    setParams(
      (before) => {
        before.set(name, value);
        return before;
      },
      { replace: true },
    );
  const options = models.map((model) => ({
    value: versionOf(model),
    label: [
      model.model,
      shortVersion(model.version),
      model.slots.includes("champion") ? `· ${t("models.slot.champion")}` : "",
    ].join(" "),
  }));
  const [left, right] = [usePreview(first, userId), usePreview(second, userId)];
  const ranks = (query: typeof left) => new Map(query.data?.items.map((film) => [film.item_id, film.rank]));
  const wrongUser = !USER.test(typed.trim());

  return (
    <>
      <Section title={t("models.whatToCompare")}>
        <form
          className={styles.choice}
          onSubmit={(event) => {
            event.preventDefault();
            if (!wrongUser) put("user", typed.trim());
          }}
        >
          <Select
            label={t("models.first")}
            value={first}
            options={options}
            onChange={(value) => put("a", value)}
          />
          <Select
            label={t("models.second")}
            value={second}
            options={options}
            onChange={(value) => put("b", value)}
          />
          <Field label={t("models.user")} error={wrongUser ? t("people.wrongNumber") : null}>
            {(control) => (
              <input
                {...control}
                inputMode="numeric"
                value={typed}
                onChange={(event) => setTyped(event.target.value)}
              />
            )}
          </Field>
          <Button type="submit" variant="primary">
            {t("models.show")}
          </Button>
        </form>
      </Section>
      <div className={styles.sides}>
        <Preview title={labelOf(first)} query={left} others={ranks(right)} />
        <Preview title={labelOf(second)} query={right} others={ranks(left)} />
      </div>
    </>
  );

  function labelOf(version: string): string {
    return options.find((option) => option.value === version)?.label ?? shortVersion(version);
  }
}
