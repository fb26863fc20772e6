import { VenetianMask } from "lucide-react";
import { useTranslation } from "react-i18next";
import { usePlay } from "../../client/queries";
import { toast } from "../../components/toast-store";
import { Button } from "../../components/button";
import { config } from "../../config";
import { useActing } from "./acting";
import { choosingDemoUser } from "./demo-store";
import styles from "./demo.module.css";

/** Says on every page whom a visitor plays, and leads back. */
export function ActingBanner() {
  const { t } = useTranslation("profile");
  const acting = useActing();
  const play = usePlay();
  if (acting === null || !config().demo) return null;
  return (
    <aside className={styles.banner} aria-label={t("demo.banner")}>
      <p>
        <VenetianMask size={18} aria-hidden="true" />
        {t("demo.acting", { id: acting })}
      </p>
      <Button size="s" onClick={() => choosingDemoUser.set(true)}>
        {t("demo.other")}
      </Button>
      <Button
        size="s"
        variant="primary"
        busy={play.isPending}
        onClick={() =>
          play.mutate(null, {
            onSuccess: () => toast({ title: t("demo.isBack") }),
            onError: (error) => toast({ tone: "error", title: t("demo.failed"), detail: error.message }),
          })
        }
      >
        {t("demo.back")}
      </Button>
    </aside>
  );
}
