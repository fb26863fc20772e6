import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Sheet } from "../../components/dialog";
import { Poster } from "../../components/poster";
import { Slider } from "../../components/slider";
import { toast } from "../../components/toast-store";
import { Badge } from "../parts/badge";
import { Facts } from "../parts/facts";
import { Check } from "../parts/field";
import { useOpsFormat } from "../parts/format";
import { Loaded } from "../parts/loaded";
import { Refusal } from "../parts/refusal";
import type { Schemas } from "../types";
import styles from "./film-sheet.module.css";
import { useChoose, useFilm } from "./queries";

const NEUTRAL = 1;

/** A film as editors see it: what is known of it, and how it is recommended. */
export function FilmSheet({ itemId, onClose }: { itemId: number | null; onClose: () => void }) {
  const { t } = useTranslation("ops");
  const film = useFilm(itemId);
  return (
    <Sheet open={itemId !== null} onClose={onClose} title={film.data?.title ?? t("catalogue.film")}>
      <Loaded query={film} height="30rem">
        {(found) => <Film key={found.item_id} film={found} />}
      </Loaded>
    </Sheet>
  );
}

function Film({ film }: { film: Schemas["Item"] }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  return (
    <div className={styles.film}>
      <div className={styles.head}>
        <div className={styles.poster}>
          <Poster film={film} sizes="9rem" />
        </div>
        <Facts
          facts={[
            [t("catalogue.number"), <code key="id">{film.item_id}</code>],
            [t("catalogue.original"), film.original_title === film.title ? null : film.original_title],
            [t("catalogue.released"), film.release_date && format.date(film.release_date)],
            [t("catalogue.runtime"), film.runtime_minutes && format.minutes(film.runtime_minutes)],
            [t("catalogue.genres"), film.genres.map(format.genre).join(", ")],
            [t("catalogue.people"), film.people.slice(0, 5).join(", ")],
            [t("catalogue.source"), film.source],
            [t("catalogue.changed"), format.dateTime(film.updated_at)],
          ]}
        />
      </div>
      <Choices film={film} />
      {film.overview ? <p className={styles.overview}>{film.overview}</p> : null}
    </div>
  );
}

function Choices({ film }: { film: Schemas["Item"] }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const choose = useChoose(film.item_id);
  // While the thumb is held; the API is asked when it is let go.
  const [boost, setBoost] = useState<number | null>(null);
  const change = (choice: Schemas["EditorialChoice"], back: Schemas["EditorialChoice"]) =>
    choose.mutate(choice, {
      onSuccess: () => {
        setBoost(null);
        toast({
          title: t("catalogue.changedFilm", { title: film.title }),
          action: { label: t("undo"), run: () => choose.mutate(back) },
        });
      },
      onError: () => setBoost(null),
    });
  return (
    <fieldset className={styles.choices}>
      <legend>{t("catalogue.choices")}</legend>
      <p className={styles.state}>
        {film.pin ? <Badge tone="good">{t("catalogue.pinned")}</Badge> : null}
        {film.block ? <Badge tone="bad">{t("catalogue.blocked")}</Badge> : null}
        {film.boost === NEUTRAL ? null : (
          <Badge tone="info">{t("catalogue.boosted", { boost: format.number(film.boost) })}</Badge>
        )}
        {!film.pin && !film.block && film.boost === NEUTRAL ? (
          <Badge tone="plain">{t("catalogue.untouched")}</Badge>
        ) : null}
      </p>
      <Check
        label={t("catalogue.pin")}
        hint={t("catalogue.pinHint")}
        checked={film.pin}
        disabled={choose.isPending}
        onChange={(pin) => change({ pin }, { pin: film.pin })}
      />
      <Check
        label={t("catalogue.block")}
        hint={t("catalogue.blockHint")}
        checked={film.block}
        disabled={choose.isPending}
        onChange={(block) => change({ block }, { block: film.block })}
      />
      <Slider
        label={t("catalogue.boost")}
        value={boost ?? film.boost}
        min={-9}
        max={11}
        step={0.5}
        onChange={setBoost}
        onCommit={(value) => change({ boost: value }, { boost: film.boost })}
        format={(value) => (value === NEUTRAL ? t("catalogue.neutral") : format.number(value))}
        ends={[t("catalogue.sink"), t("catalogue.lift")]}
      />
      <p className={styles.hint}>{t("catalogue.boostHint")}</p>
      <Refusal error={choose.error} />
    </fieldset>
  );
}
