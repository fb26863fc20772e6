import { useRef, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Outlet, ScrollRestoration, type Location } from "react-router";
import { Toaster } from "../components/toast";
import { Footer } from "./footer";
import { Header } from "./header";
import { OfflineBanner } from "./offline-banner";
import { useRouteFocus } from "./page";
import styles from "./shell.module.css";

interface Props {
  /** The search box. */
  search?: ReactNode;
  /** What the viewer has at hand on every page, beside language and theme. */
  tools?: ReactNode;
  /** Below the header. */
  banner?: ReactNode;
}

/** What surrounds every page. */
export function Shell({ search, tools, banner }: Props) {
  const { t } = useTranslation();
  const main = useRef<HTMLElement>(null);
  useRouteFocus(main);
  return (
    <div className={styles.shell}>
      <a className={styles.skip} href="#content">
        {t("skip")}
      </a>
      <Header search={search} tools={tools} />
      {banner}
      <OfflineBanner />
      <main id="content" ref={main} tabIndex={-1} className={styles.main}>
        <Outlet />
      </main>
      <Footer />
      <Toaster />
      <ScrollRestoration getKey={placeOf} />
    </div>
  );
}

/** The first page of each visit has the same key, whatever its address. */
function placeOf({ key, pathname }: Location): string {
  return key === "default" ? pathname : key;
}
