import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Link, NavLink } from "react-router";
import { useSession } from "../client/queries";
import { LanguageSwitch, ThemeSwitch } from "./switches";
import styles from "./shell.module.css";

export function Header({ search, tools }: { search?: ReactNode; tools?: ReactNode }) {
  const { t } = useTranslation();
  const operator = useSession().data?.role === "operator";
  return (
    <header className={styles.header}>
      <div className={styles.bar}>
        <Link to="/" className={styles.brand}>
          <Mark />
          <span className={styles.name}>{t("site")}</span>
        </Link>
        <nav className={styles.nav} aria-label={t("nav.label")}>
          <NavLink to="/" end>
            {t("nav.home")}
          </NavLink>
          <NavLink to="/predictor">{t("nav.predictor")}</NavLink>
          {operator ? <NavLink to="/ops">{t("nav.ops")}</NavLink> : null}
        </nav>
        {search ? <div className={styles.search}>{search}</div> : null}
        <div className={styles.tools}>
          {tools}
          <LanguageSwitch />
          <ThemeSwitch />
        </div>
      </div>
    </header>
  );
}

function Mark() {
  return (
    <svg width="26" height="26" viewBox="0 0 32 32" aria-hidden="true">
      <path
        d="M5 25V9l11 9 11-9v16"
        fill="none"
        stroke="currentColor"
        strokeWidth="4"
        strokeLinecap="round"
        strokeLinejoin="round"
      />
    </svg>
  );
}
