import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { useRouteError } from "react-router";
import { answers } from "../client/api";
import { unreachable } from "../client/problem";
import { Button, ButtonLink } from "../components/button";
import { EmptyState, ErrorState } from "../components/states";
import { markUnreachable, useReachable } from "../state/online";
import { Page } from "./page";

/** Shown in place of a page that threw. */
export function Failure() {
  const { t } = useTranslation();
  const error = useRouteError();
  if (useAway())
    return (
      <Page title={t("error.title")} hideTitle>
        <ErrorState error={unreachable()} />
      </Page>
    );
  return (
    <Page title={t("error.crash")} hideTitle>
      <EmptyState
        title={t("error.crash")}
        detail={`${error instanceof Error ? `${error.message}. ` : ""}${t("error.crashDetail")}`}
        action={<Button onClick={() => window.location.reload()}>{t("action.reload")}</Button>}
      />
    </Page>
  );
}

/**
 * Whether the page broke because the service is away: then not even the files of a page that was not open before can
 * be fetched. Once it is back, the page is loaded anew.
 */
function useAway(): boolean {
  const [away, setAway] = useState(false);
  const reachable = useReachable();
  useEffect(() => {
    void answers().then((there) => {
      if (there) return;
      markUnreachable();
      setAway(true);
    });
  }, []);
  useEffect(() => {
    if (away && reachable) window.location.reload();
  }, [away, reachable]);
  return away;
}

export function NotFound() {
  const { t } = useTranslation();
  return (
    <Page title={t("notFound.title")} hideTitle>
      <EmptyState
        title={t("notFound.title")}
        detail={t("notFound.detail")}
        action={
          <ButtonLink to="/" variant="primary">
            {t("notFound.home")}
          </ButtonLink>
        }
      />
    </Page>
  );
}
