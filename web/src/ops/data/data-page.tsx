import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { body, opsApi } from "../../client/api";
import { useLang } from "../../i18n";
import { opsKeys } from "../keys";
import { Bars, Figure, Figures } from "../parts/facts";
import { useOpsFormat } from "../parts/format";
import { Loaded } from "../parts/loaded";
import { Columns, OpsPage, Section } from "../parts/page";
import type { Schemas } from "../types";
import { Outcomes } from "./outcomes";
import { Quarantine } from "./quarantine";

const GENRES_SHOWN = 12;

export function DataPage() {
  const { t } = useTranslation("ops");
  const summary = useQuery({
    queryKey: opsKeys.catalogue,
    queryFn: ({ signal }) => body(opsApi().GET("/v1/catalogue/summary", { signal })),
  });
  return (
    <OpsPage title={t("data.title")} lead={t("data.lead")}>
      <Loaded query={summary} height="28rem">
        {(counts) => <Counts counts={counts} />}
      </Loaded>
      <Outcomes />
      <Quarantine />
    </OpsPage>
  );
}

function Counts({ counts }: { counts: Schemas["CatalogueBody"] }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const lang = useLang();
  const languages = new Intl.DisplayNames([lang], { type: "language" });
  const share = (part: number) => (counts.items > 0 ? format.percent(part / counts.items) : t("none"));
  const bars = (values: Record<string, number>, name: (key: string) => string = (key) => key) =>
    Object.entries(values)
      .sort(([, one], [, other]) => other - one)
      .map(([key, value]) => ({ name: name(key), value, text: format.number(value) }));
  return (
    <>
      <Figures>
        <Figure
          label={t("data.items")}
          value={format.number(counts.items)}
          note={t("data.removed", { n: format.number(counts.removed) })}
        />
        <Figure
          label={t("data.posters")}
          value={share(counts.with_poster)}
          note={format.number(counts.with_poster)}
        />
        <Figure
          label={t("data.overviews")}
          value={share(counts.with_overview)}
          note={format.number(counts.with_overview)}
        />
        <Figure
          label={t("data.editorial")}
          value={format.number(counts.pinned + counts.blocked + counts.boosted)}
          note={t("data.editorialNote", {
            pinned: format.number(counts.pinned),
            blocked: format.number(counts.blocked),
            boosted: format.number(counts.boosted),
          })}
        />
        <Figure
          label={t("data.interactions")}
          value={format.number(counts.interactions)}
          note={
            counts.newest_event_at
              ? t("data.newest", { at: format.dateTime(counts.newest_event_at) })
              : undefined
          }
        />
        <Figure label={t("data.users")} value={format.number(counts.users)} />
      </Figures>
      <Columns>
        <Section title={t("data.byGenre")}>
          <Bars
            bars={counts.by_genre.slice(0, GENRES_SHOWN).map(({ genre, items }) => ({
              name: format.genre(genre),
              value: items,
              text: format.number(items),
            }))}
          />
        </Section>
        <div>
          <Columns>
            <Section title={t("data.byLanguage")} lead={t("data.byLanguageLead")}>
              <Bars bars={bars(counts.languages, (tag) => languages.of(tag) ?? tag)} />
            </Section>
            <Section title={t("data.bySource")}>
              <Bars bars={bars(counts.by_source)} />
            </Section>
          </Columns>
        </div>
      </Columns>
    </>
  );
}
