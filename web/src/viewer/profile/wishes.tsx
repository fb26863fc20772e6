import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Slider } from "../../components/slider";
import { useFormat } from "../../lib/format";
import { prefer, usePreferences } from "../../state/preferences";
import { setTaste } from "../home/taste";
import styles from "./profile.module.css";

/** What this browser keeps: how varied the rows are, and the shortcut. */
export function Wishes() {
  const { t } = useTranslation("profile");
  const { percent } = useFormat();
  const { diversity, slash } = usePreferences();
  const [dragged, setDragged] = useState<number | null>(null);
  return (
    <section className={styles.panel} aria-labelledby="wishes">
      <h2 id="wishes">{t("wishes.title")}</h2>
      <Slider
        label={t("wishes.diversity")}
        value={dragged ?? diversity}
        onChange={setDragged}
        onCommit={(next) => {
          setDragged(null);
          prefer({ diversity: next });
          setTaste({ diversity: next });
        }}
        format={(share) => percent(share)}
        ends={[t("wishes.alike"), t("wishes.varied")]}
      />
      <p className={styles.fine}>{t("wishes.diversityHint")}</p>
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
