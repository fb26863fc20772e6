import { useTranslation } from "react-i18next";
import { useRouteError } from "react-router";
import { Button, ButtonLink } from "../components/button";
import { EmptyState } from "../components/states";
import { Page } from "./page";

/** Shown in place of a page that threw. */
export function Failure() {
  const { t } = useTranslation();
  const error = useRouteError();
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
