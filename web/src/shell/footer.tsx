import { useTranslation } from "react-i18next";
import { config } from "../config";
import styles from "./shell.module.css";

export function Footer() {
  const { t } = useTranslation();
  const { api, version } = config();
  return (
    <footer className={styles.footer}>
      <div>
        <p>{t("footer.tmdb")}</p>
        <a href={`${api}/docs`}>{t("footer.api")}</a>
        {version ? <p>{t("footer.version", { version })}</p> : null}
      </div>
    </footer>
  );
}
