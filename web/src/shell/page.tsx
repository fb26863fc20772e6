import { useEffect, useRef, type ReactNode, type RefObject } from "react";
import { useTranslation } from "react-i18next";
import { useLocation } from "react-router";
import { filmLinkOf } from "../components/film-link";
import styles from "./shell.module.css";

/** The title of the browser's tab while the calling page is shown. */
export function useTitle(title: string | undefined): void {
  const { t } = useTranslation();
  const site = t("site");
  useEffect(() => {
    document.title = title ? `${title} · ${site}` : site;
  }, [title, site]);
}

/** A page with its title in the tab and as h1, between the margins. */
export function Page({
  title,
  hideTitle = false,
  children,
}: {
  title: string;
  hideTitle?: boolean;
  children: ReactNode;
}) {
  useTitle(title);
  return (
    <div className={styles.page}>
      <h1 className={hideTitle ? "visually-hidden" : undefined}>{title}</h1>
      {children}
    </div>
  );
}

/** After a change of page the focus goes to the new one, as after a load: screen readers begin there. */
export function useRouteFocus(main: RefObject<HTMLElement | null>): void {
  const location = useLocation();
  // A film over the home page is a dialog, which looks after the focus itself.
  const page = filmLinkOf(location).depth === undefined ? location.pathname : "/";
  const shown = useRef(page);
  useEffect(() => {
    if (shown.current === page) return;
    shown.current = page;
    main.current?.focus({ preventScroll: true });
  }, [main, page]);
}
