import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { useParams } from "react-router";
import { body, opsApi } from "../../client/api";
import { ButtonLink } from "../../components/button";
import { opsKeys } from "../keys";
import { Preview } from "../models/preview";
import { holding, useModels, usePreview, versionOf } from "../models/queries";
import { Tag } from "../parts/badge";
import { Bars, Facts } from "../parts/facts";
import { shortVersion, useOpsFormat } from "../parts/format";
import { Loaded } from "../parts/loaded";
import { Columns, OpsPage, Section } from "../parts/page";
import type { ModelVersion, Schemas } from "../types";
import { History } from "./history";
import styles from "./people.module.css";
import { useEventName } from "./words";

/** One person: who, what they did, and what each model makes of it. */
export function Person() {
  const { t } = useTranslation("ops");
  const { userId = "" } = useParams();
  const user = useQuery({
    queryKey: opsKeys.person(Number(userId)),
    queryFn: ({ signal }) =>
      body(opsApi().GET("/v1/users/{user_id}", { params: { path: { user_id: Number(userId) } }, signal })),
  });
  return (
    <OpsPage
      title={t("people.one", { id: userId })}
      up={{ to: "/ops/people", label: t("people.title") }}
      actions={
        <ButtonLink to={`/ops/models/compare?user=${encodeURIComponent(userId)}`}>
          {t("people.compare")}
        </ButtonLink>
      }
    >
      <Loaded query={user} height="14rem">
        {(profile) => <Profile profile={profile} />}
      </Loaded>
      <Lists userId={Number(userId)} />
      <History userId={Number(userId)} />
    </OpsPage>
  );
}

function Profile({ profile }: { profile: Schemas["UserProfile"] }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const eventName = useEventName();
  const events = Object.entries(profile.events).sort(([, one], [, other]) => other - one);
  return (
    <Columns>
      <Section title={t("people.facts")}>
        <Facts
          facts={[
            [t("people.kindOne"), profile.kind ? t(`people.kind.${profile.kind}`) : t("people.unknown")],
            [t("people.created"), profile.created_at && format.dateTime(profile.created_at)],
            [t("people.first"), profile.first_event_at && format.dateTime(profile.first_event_at)],
            [t("people.last"), profile.last_event_at && format.dateTime(profile.last_event_at)],
            [
              t("people.genres"),
              profile.favourite_genres.length > 0 ? (
                <span key="genres" className={styles.genres}>
                  {profile.favourite_genres.map((genre) => (
                    <Tag key={genre}>{format.genre(genre)}</Tag>
                  ))}
                </span>
              ) : null,
            ],
          ]}
        />
      </Section>
      <Section title={t("people.events")}>
        {events.length === 0 ? (
          <p>{t("people.noEvents")}</p>
        ) : (
          <Bars
            bars={events.map(([event, count]) => ({
              name: eventName(event),
              value: count,
              text: format.number(count),
            }))}
          />
        )}
      </Section>
    </Columns>
  );
}

/** What the champion shows, beside what the newest challenger would. */
function Lists({ userId }: { userId: number }) {
  const { t } = useTranslation("ops");
  const models = useModels();
  return (
    <Loaded query={models} height="30rem">
      {(found) => {
        const champion = holding(found, "champion");
        const newest = found.find((model) => model.version !== null && model !== champion && canRank(model));
        const shown = [champion, newest].filter((model) => model !== undefined);
        return shown.length === 0 ? (
          <Section title={t("people.lists")}>
            <p>{t("people.noModels")}</p>
          </Section>
        ) : (
          <div className={styles.lists}>
            {shown.map((model) => (
              <Shown key={model.bundle} model={model} userId={userId} />
            ))}
          </div>
        );
      }}
    </Loaded>
  );
}

function Shown({ model, userId }: { model: ModelVersion; userId: number }) {
  const { t } = useTranslation("ops");
  const preview = usePreview(versionOf(model), userId);
  const role = model.slots.includes("champion") ? ` · ${t("models.slot.champion")}` : "";
  return <Preview title={`${model.model} ${shortVersion(model.version)}${role}`} query={preview} />;
}

/** The predictor's own slot does not keep a model from making lists, but others come first. */
function canRank(model: ModelVersion): boolean {
  return !model.slots.includes("predictor");
}
