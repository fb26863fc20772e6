import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Button } from "../../components/button";
import { Slider } from "../../components/slider";
import { useFormat } from "../../lib/format";
import { prefer, usePreferences } from "../../state/preferences";
import styles from "./profile.module.css";

const MIDDLE = 0.3;

/** What this browser keeps: how varied the rows are, and the shortcut. */
export function Wishes() {
  const { t } = useTranslation("profile");
  const { percent } = useFormat();
  const { diversity, slash } = usePreferences();
  const [dragged, setDragged] = useState<number | null>(null);
  const value = dragged ?? diversity ?? MIDDLE;
  return (
    <section className={styles.panel} aria-labelledby="wishes">
      <h2 id="wishes">{t("wishes.title")}</h2>
      <Slider
        label={t("wishes.diversity")}
        value={value}
        onChange={setDragged}
        onCommit={(next) => {
          setDragged(null);
          prefer({ diversity: next });
        }}
        format={(share) => (dragged === null && diversity === null ? t("wishes.auto") : percent(share))}
        ends={[t("wishes.alike"), t("wishes.varied")]}
      />
      <p className={styles.fine}>{t("wishes.diversityHint")}</p>
      <Button size="s" disabled={diversity === null} onClick={() => prefer({ diversity: null })}>
        {t("wishes.reset")}
      </Button>
      <label className={styles.check}>
        <input
          type="checkbox"
          checked={slash}
          onChange={(event) => prefer({ slash: event.target.checked })}
        />
        {t("wishes.slash")}
      </label>
    </section>
  );
}
