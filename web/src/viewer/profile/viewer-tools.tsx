import { CircleUserRound, VenetianMask } from "lucide-react";
import { lazy, Suspense } from "react";
import { useTranslation } from "react-i18next";
import { IconButton, ButtonLink } from "../../components/button";
import { config } from "../../config";
import { useStore } from "../../lib/store";
import { choosingDemoUser } from "./demo-store";
import styles from "./demo.module.css";

const DemoDialog = lazy(async () => ({ default: (await import("./demo-dialog")).DemoDialog }));

/** At hand on every page: the demo users, where there are any, and one's own page. */
export function ViewerTools() {
  const { t } = useTranslation("profile");
  const choosing = useStore(choosingDemoUser);
  return (
    <>
      {config().demo ? (
        <IconButton label={t("demo.switch")} onClick={() => choosingDemoUser.set(true)}>
          <VenetianMask size={18} aria-hidden="true" />
        </IconButton>
      ) : null}
      <ButtonLink to="/me" variant="quiet" className={styles.me} aria-label={t("title")} title={t("title")}>
        <CircleUserRound size={18} aria-hidden="true" />
      </ButtonLink>
      {choosing ? (
        <Suspense>
          <DemoDialog onClose={() => choosingDemoUser.set(false)} />
        </Suspense>
      ) : null}
    </>
  );
}
